"""The Tornado handler under `/socket.io`: the adapter's own, with every queue bounded and the short way for events."""

import asyncio
from typing import Any, Final
from urllib.parse import urlsplit

import socketio
from tornado.web import HTTPError, RequestHandler

from handlers.socket.engine_session import ENTER_OR_LEAVE
from handlers.socket.websocket import WebSocket
from server.context import Context
from server.engine_socket import PACKETS_PER_BODY

ENGINE_VERSION: Final = "4"
TRANSPORTS: Final = ("polling", "websocket")
# Between the packets of a polled body.
_SEPARATOR: Final = "\x1e"
# What a client may poll with: Engine.IO's close, pong and message, and "b", a binary message. An upgrade, and the ping
# before it, come over the WebSocket.
_KNOWN_TYPES: Final = frozenset("134b")
# Socket.IO's CONNECT and DISCONNECT. Each CONNECT has a token verified, and clients send one for each namespace.
_ENTER_OR_LEAVE: Final = tuple(f"4{kind}" for kind in ENTER_OR_LEAVE)
MOST_ENTERING: Final = 16


def make_socket_handler(context: Context) -> type[RequestHandler]:
    """The handler class for the route; it belongs to this context's Socket.IO server."""
    adapter: Any = socketio.get_tornado_handler(context.realtime.server)
    engine = context.realtime.engine
    origins = frozenset(context.settings.cors.origins)

    class SocketHandler(adapter):  # type: ignore[misc]
        """Refuses before the upgrade what Engine.IO would refuse after it and leave open."""

        def set_default_headers(self) -> None:
            self.set_header("Server", "madang")
            self.set_header("X-Content-Type-Options", "nosniff")

        def prepare(self) -> None:
            if self.get_query_argument("transport", "polling") not in TRANSPORTS:
                raise HTTPError(400)
            engine_sid = self.get_query_argument("sid", "")
            if engine_sid:
                session = engine.sockets.get(engine_sid)
                if session is None or session.upgraded or session.closed:
                    raise HTTPError(400)
            elif self.get_query_argument("EIO", "") != ENGINE_VERSION:
                raise HTTPError(400)
            if self.request.method == "POST" and not _is_payload(self.request.body):
                raise HTTPError(400)

        def check_origin(self, origin: str) -> bool:
            return origin in origins or urlsplit(origin).netloc == self.request.headers.get("Host")

        def get_compression_options(self) -> None:
            """No compression: it costs more memory for each connection than everything else together."""

        async def open(self, *_args: str, **_kwargs: str) -> None:
            """Engine.IO has `hand_over` called, or has refused; Tornado's own reader finds a closed stream."""
            await engine.handle_request(self)
            if self.ws_connection is not None:
                self.ws_connection.stream.close()

        async def hand_over(self, websocket: WebSocket) -> None:
            """Give the connection to `websocket`, and let go of all that Tornado keeps for one."""
            stream = self.ws_connection.stream
            if stream.closed():
                raise ConnectionAbortedError
            stream.set_nodelay(True)
            # Tornado closes its own descriptor, so that nothing of it needs to be known. Clients say nothing before
            # the handshake is answered (RFC 6455, 4.1), so nothing of theirs is in the stream.
            own = stream.socket.dup()
            stream.close()
            try:
                await asyncio.get_running_loop().connect_accepted_socket(lambda: websocket, own)
            except BaseException:
                own.close()
                raise

        def on_message(self, _message: str | bytes) -> None:
            """Nothing comes this way."""

        def on_close(self) -> None:
            """The adapter would tell a queue that nobody reads."""

        def write_error(self, status_code: int, **_kwargs: Any) -> None:
            self.set_header("Content-Type", "application/json")
            self.finish({"code": status_code, "message": self._reason})

    return SocketHandler


def _is_payload(body: bytes) -> bool:
    """Whether a polled body is a row of packets that a client may send, and of no more than it may send at once."""
    try:
        packets = body.decode().split(_SEPARATOR)
    except UnicodeDecodeError:
        return False
    if len(packets) > PACKETS_PER_BODY or not all(packet[:1] in _KNOWN_TYPES for packet in packets):
        return False
    return sum(packet.startswith(_ENTER_OR_LEAVE) for packet in packets) <= MOST_ENTERING
