"""The Tornado handler under `/socket.io`: the adapter's own, with every queue bounded and the short way for events."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, Final
from urllib.parse import urlsplit

import socketio
from tornado.web import HTTPError, RequestHandler
from tornado.websocket import WebSocketClosedError, WebSocketProtocol

from handlers.socket.dispatcher import Dispatcher
from handlers.socket.frame_reader import ChunkedReader
from server.connection import DIRECT_MARKER, Connection
from server.context import Context

log = logging.getLogger(__name__)

ENGINE_VERSION: Final = "4"
TRANSPORTS: Final = ("polling", "websocket")
# Engine.IO's own packets wait here (pings, upgrades, CONNECT); a client that sends more is read more slowly.
MAX_CONTROL_PACKETS: Final = 16
_MARKER_PACKET: Final = "4" + DIRECT_MARKER
# Between the packets of a polled body.
_SEPARATOR: Final = "\x1e"
# Engine.IO packet types that a client may send: close, pong, message, upgrade, and the probe ping.
_KNOWN_TYPES: Final = frozenset("12345")


def make_socket_handler(context: Context, dispatcher: Dispatcher) -> type[RequestHandler]:
    """The handler class for the route; it belongs to this context's Socket.IO server."""
    adapter: Any = socketio.get_tornado_handler(context.realtime.server)
    engine = context.realtime.engine
    origins = frozenset(context.settings.cors.origins)

    class SocketHandler(adapter):  # type: ignore[misc]
        """Refuses before the upgrade what Engine.IO would refuse after it and leave open."""

        def initialize(self) -> None:
            self.receive_queue: asyncio.Queue[str | None] = asyncio.Queue(MAX_CONTROL_PACKETS)
            self._engine_sid = self.get_query_argument("sid", "")
            self._driver: asyncio.Task[None] | None = None

        def set_default_headers(self) -> None:
            self.set_header("Server", "madang")
            self.set_header("X-Content-Type-Options", "nosniff")

        def prepare(self) -> None:
            if self.get_query_argument("transport", "polling") not in TRANSPORTS:
                raise HTTPError(400)
            if self._engine_sid:
                session = engine.sockets.get(self._engine_sid)
                if session is None or session.upgraded:
                    raise HTTPError(400)
            elif self.get_query_argument("EIO", "") != ENGINE_VERSION:
                raise HTTPError(400)
            if self.request.method == "POST" and not _is_payload(self.request.body):
                raise HTTPError(400)

        def check_origin(self, origin: str) -> bool:
            return origin in origins or urlsplit(origin).netloc == self.request.headers.get("Host")

        def get_compression_options(self) -> None:
            """No compression: it costs more memory for each connection than everything else together."""

        def get_websocket_protocol(self) -> WebSocketProtocol | None:
            given = super().get_websocket_protocol()
            return None if given is None else ChunkedReader(self, False, given.params)

        async def open(self, *_args: str, **_kwargs: str) -> None:
            self.set_nodelay(True)
            self._driver = asyncio.ensure_future(self._drive())

        def on_message(self, message: str | bytes) -> Awaitable[None] | None:
            if isinstance(message, bytes):
                # Attachments of an event that was refused already.
                return None
            if message[:1] not in _KNOWN_TYPES:
                # Engine.IO's reader would end here without telling anybody.
                self.close(1003)
                return None
            if message[0] == "4" and message[1:2] not in ("0", "1"):
                connection = self._find_connection()
                return None if connection is None else dispatcher.receive(connection, message[1:])
            return self.receive_queue.put(message)

        def write_message(self, message: Any, binary: bool = False) -> Any:
            if message == _MARKER_PACKET:
                connection = self._find_connection()
                if connection is not None and self.ws_connection is not None:
                    connection.write_directly(self.ws_connection.stream)
                return None
            written = super().write_message(message, binary)
            written.add_done_callback(_retrieve)
            return written

        def on_close(self) -> None:
            if self.receive_queue.full():
                self.receive_queue.get_nowait()
            self.receive_queue.put_nowait(None)

        def write_error(self, status_code: int, **_kwargs: Any) -> None:
            self.set_header("Content-Type", "application/json")
            self.finish({"code": status_code, "message": self._reason})

        async def _drive(self) -> None:
            """Run Engine.IO's reader, and see that nothing of this connection outlives it."""
            try:
                await engine.handle_request(self)
            except WebSocketClosedError:
                pass
            except Exception:
                log.exception("a connection ended by a failure")
            finally:
                socket = engine.sockets.get(self._engine_sid)
                if socket is not None and socket.upgraded and not socket.closed:
                    await socket.close(wait=False, abort=True)
                self.close()

        def _find_connection(self) -> Connection | None:
            return context.realtime.find(self._engine_sid)

        def bind(self, engine_sid: str) -> None:
            """Engine.IO has given this WebSocket its id."""
            self._engine_sid = engine_sid

    return SocketHandler


def _is_payload(body: bytes) -> bool:
    """Whether a polled body is a row of packets, each of a type that a client may send ("b" is a binary message)."""
    try:
        packets = body.decode().split(_SEPARATOR)
    except UnicodeDecodeError:
        return False
    return all(packet[:1] in _KNOWN_TYPES or packet[:1] == "b" for packet in packets)


def _retrieve(written: "asyncio.Future[None]") -> None:
    if not written.cancelled():
        written.exception()
