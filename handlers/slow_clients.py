"""Sends large answers in pieces and closes connections of clients that do not read."""

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final

from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler

# A large answer is written in pieces. A client that does not read a piece within the timeout is disconnected.
PIECE_BYTES: Final = 64 * 1024
READ_TIMEOUT: Final = 30.0


async def write_pieces(handler: RequestHandler, body: bytes, note_unsent: Callable[[int], None]) -> None:
    """Write `body` in pieces, each after the client has read the one before.

    `note_unsent` is called with the number of unsent bytes, and with 0 at the end. The connection is closed if a piece
    is not read within `READ_TIMEOUT` seconds.
    """
    handler.set_header("Content-Length", len(body))
    try:
        for start in range(0, len(body), PIECE_BYTES):
            handler.write(body[start : start + PIECE_BYTES])
            taken = handler.flush()
            if not taken.done():
                note_unsent(len(body) - start)
            await asyncio.wait_for(taken, READ_TIMEOUT)
    except StreamClosedError:
        return
    except TimeoutError:
        end_connection(handler)
    finally:
        note_unsent(0)


def buffered_size(handler: Any) -> int:
    """How many bytes of the answer wait in Tornado's own list of chunks, before they are flushed."""
    return sum(map(len, handler._write_buffer))


def end_connection(handler: RequestHandler) -> None:
    """Close the connection at once, so that a partial answer does not look complete."""
    connection: Any = handler.request.connection
    connection.close()


def end_unless_taken(handler: RequestHandler, written: "asyncio.Future[None]", size: int) -> None:
    """Close the connection if the client does not read its last answer of `size` bytes in time."""
    if written.done():
        return
    timeout = READ_TIMEOUT * max(1, math.ceil(size / PIECE_BYTES))
    timer = asyncio.get_running_loop().call_later(timeout, end_connection, handler)
    written.add_done_callback(lambda _written: timer.cancel())
