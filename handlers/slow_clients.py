"""Answers to clients that read slowly: sent piece by piece, and ended when a client reads nothing."""

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final

from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler

# A large answer is written in pieces of this size. A client that reads none of one within the timeout is cut off.
PIECE_BYTES: Final = 64 * 1024
READ_TIMEOUT: Final = 30.0


async def write_pieces(handler: RequestHandler, body: bytes, note_unsent: Callable[[int], None]) -> None:
    """Write `body` in pieces, each once the client has taken the one before.

    `note_unsent` is told how many bytes wait for the client, and 0 at the end. Closes the connection of a client that
    takes nothing for `READ_TIMEOUT` seconds.
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


def end_connection(handler: RequestHandler) -> None:
    """Close it, whatever of the answer has been sent: one that is cut must not look whole."""
    connection: Any = handler.request.connection
    connection.close()


def end_unless_taken(handler: RequestHandler, written: "asyncio.Future[None]", size: int) -> None:
    """Close the connection of a client that does not take its last answer, of so many bytes."""
    if written.done():
        return
    patience = READ_TIMEOUT * max(1, math.ceil(size / PIECE_BYTES))
    timer = asyncio.get_running_loop().call_later(patience, end_connection, handler)
    written.add_done_callback(lambda _written: timer.cancel())
