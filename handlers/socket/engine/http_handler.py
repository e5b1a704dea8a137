"""The Tornado handler of `/socket.io`: python-socketio's own, with checks before Engine.IO and a bare WebSocket."""

import asyncio
import base64
import logging
import re
from collections.abc import Callable
from typing import Any, Final

import socketio
from tornado.web import HTTPError, RequestHandler

from handlers.connection_limits import slot_of
from handlers.origins import allow_origin, is_foreign
from handlers.problems import to_chat_error, write_problem
from handlers.request_id import HEADER as REQUEST_ID
from handlers.request_id import identify
from handlers.slow_clients import buffered_size, end_unless_taken
from handlers.socket.engine.polling import PACKETS_PER_BODY, PolledSocket
from handlers.socket.engine.sessions import EngineSessions
from handlers.socket.engine.websocket import WebSocket
from handlers.socket.engine.websocket_session import CONNECT_OR_DISCONNECT
from server.config.settings import Settings
from server.errors import ChatError, Forbidden, ValidationFailed

log = logging.getLogger(__name__)

ENGINE_VERSION: Final = "4"
UPDATE_CLIENT: Final = (
    f"must be {ENGINE_VERSION}: this server speaks Engine.IO {ENGINE_VERSION} and Socket.IO protocol 5 alone, as "
    "socket.io-client 3 and 4 do; older clients must be updated"
)
TRANSPORTS: Final = ("polling", "websocket")
SWITCHING_PROTOCOLS: Final = 101
# Separates the packets of a polled body.
_SEPARATOR: Final = "\x1e"
# Packet types that a client may poll with: Engine.IO's close, pong and message, and "b", a binary message. The upgrade
# and the ping before it come over the WebSocket.
_KNOWN_TYPES: Final = frozenset("134b")
# Socket.IO's CONNECT and DISCONNECT. Each CONNECT verifies a token, and clients send one for each namespace.
_CONNECT_OR_DISCONNECT: Final = tuple(f"4{kind}" for kind in CONNECT_OR_DISCONNECT)
MAX_CONNECTS: Final = 16
# Names of headers (RFC 9110, 5.1) in a list.
_HEADER_NAMES: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]+")


def make_socket_handler(
    sessions: EngineSessions, settings: Callable[[], Settings], note_refusal: Callable[[ChatError], None]
) -> type[RequestHandler]:
    """The handler class of the route, bound to this Socket.IO server. `note_refusal` is called with every error."""
    adapter: Any = socketio.get_tornado_handler(sessions.server)
    engine = sessions.engine

    class SocketHandler(adapter):  # type: ignore[misc]
        """Refuses bad requests before the upgrade; Engine.IO would refuse them after it and leave them open."""

        def initialize(self) -> None:
            self.slot = slot_of(self.request.connection)

        def set_default_headers(self) -> None:
            self.set_header(REQUEST_ID, identify(self.request))
            self.set_header("Server", "madang")
            self.set_header("X-Content-Type-Options", "nosniff")
            if allow_origin(self, settings()):
                # Same as Engine.IO's own server: any requested header is allowed.
                self.set_header("Access-Control-Allow-Credentials", "true")
                self.set_header("Access-Control-Allow-Methods", "OPTIONS, GET, POST")
                self.set_header("Access-Control-Expose-Headers", REQUEST_ID)
                requested = self.request.headers.get("Access-Control-Request-Headers", "")
                if _HEADER_NAMES.fullmatch(requested):
                    self.set_header("Access-Control-Allow-Headers", requested)

        def prepare(self) -> None:
            self.slot.begin(self.request.headers)
            if is_foreign(self.request.remote_ip or "", self.request.headers, settings()):
                raise Forbidden("Pages of this origin may not call: it is neither this server's own nor listed")
            if self.get_query_argument("transport", "polling") not in TRANSPORTS:
                raise ValidationFailed.at("transport", "must be polling or websocket")
            engine_sid = self.get_query_argument("sid", "")
            if engine_sid:
                session = engine.sockets.get(engine_sid)
                if session is None or session.upgraded or session.closed:
                    raise ValidationFailed.at("sid", "there is no such session, begin a new one without sid")
            elif self.get_query_argument("EIO", "") != ENGINE_VERSION:
                raise ValidationFailed.at("EIO", UPDATE_CLIENT)
            if self.request.method == "POST" and not _is_payload(self.request.body):
                raise ValidationFailed("The body is no row of Engine.IO packets, or one of too many")

        def check_origin(self, _origin: str) -> bool:
            """`prepare` has checked it by the rule for all requests."""
            return True

        def get_compression_options(self) -> None:
            """No compression: its memory would exceed all else that a connection needs."""

        async def open(self, *_args: str, **_kwargs: str) -> None:
            """Let Engine.IO refuse or call `transfer_connection`; Tornado's reader then finds a closed stream."""
            await engine.handle_request(self)
            if self.ws_connection is not None:
                self.ws_connection.stream.close()

        async def transfer_connection(self, websocket: WebSocket) -> None:
            """Give the TCP connection to `websocket` and free all that Tornado keeps for it."""
            stream = self.ws_connection.stream
            if stream.closed():
                raise ConnectionAbortedError
            stream.set_nodelay(True)
            # Tornado closes its descriptor itself; the WebSocket uses a duplicate. The stream holds no data of the
            # client, which sends nothing before the handshake is answered (RFC 6455, 4.1).
            own = stream.socket.dup()
            self.slot.detach_stream()
            stream.close()
            websocket.slot = self.slot
            try:
                await asyncio.get_running_loop().connect_accepted_socket(lambda: websocket, own)
            except BaseException:
                own.close()
                self.slot.release()
                raise

        def on_finish(self) -> None:
            # A WebSocket keeps its slot until it ends.
            if self.get_status() != SWITCHING_PROTOCOLS:
                self.slot.end()

        def on_connection_close(self) -> None:
            super().on_connection_close()
            if self.request.method == "GET" and self.ws_connection is None:
                session = engine.sockets.get(self.get_query_argument("sid", ""))
                transport: PolledSocket | None = getattr(session, "transport", None)
                if transport is not None:
                    transport.lose_poll()

        def on_message(self, _message: str | bytes) -> None:
            """Unused: `WebSocket` reads the messages."""

        def on_close(self) -> None:
            """The adapter would put this into a queue that has no reader."""

        def write_error(self, status_code: int, **kwargs: Any) -> None:
            error = to_chat_error(kwargs.get("exc_info", (None, None, None))[1], status_code)
            note_refusal(error)
            write_problem(self, error)
            self.finish()

        def finish(self, chunk: Any = None) -> Any:
            if chunk is not None:
                self.write(chunk)
            size = buffered_size(self)
            written = super().finish()
            end_unless_taken(self, written, size)
            return written

        def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
            if not isinstance(value, ChatError | HTTPError):
                # Not the full URL: it contains the session id.
                log.error("request failed method=%s path=/socket.io", self.request.method, exc_info=(typ, value, tb))

    return SocketHandler


def _is_payload(body: bytes) -> bool:
    """Whether a polled body consists of packets that a client may send, and of no more than allowed."""
    try:
        packets = body.decode().split(_SEPARATOR)
    except UnicodeDecodeError:
        return False
    if len(packets) > PACKETS_PER_BODY or not all(map(_is_packet, packets)):
        return False
    return sum(packet.startswith(_CONNECT_OR_DISCONNECT) for packet in packets) <= MAX_CONNECTS


def _is_packet(packet: str) -> bool:
    """Whether the library can read it; if not, it would drop the whole body and answer with success."""
    if packet[:1] == "b":
        try:
            base64.b64decode(packet[1:])
        except ValueError:
            return False
    # No client sends JSON here, but the library would parse it, to any depth.
    return packet[:1] in _KNOWN_TYPES and packet[1:].lstrip()[:1] not in ("[", "{")
