"""Hooks into the Socket.IO and Engine.IO servers: begin and end of sessions, CONNECT, DISCONNECT, polled packets."""

import asyncio
import logging
from typing import Any, Final, cast

from engineio.packet import MESSAGE, Packet
from socketio.exceptions import ConnectionRefusedError as RefusedError

from handlers.socket.connections import Connections
from handlers.socket.dispatcher import Dispatcher
from handlers.socket.engine.polling import Environ, PolledSocket, answer_poll, disable_pings
from handlers.socket.engine.sessions import EngineSessions
from handlers.socket.engine.websocket import FRAMES_PER_TURN
from handlers.socket.engine.websocket_session import CONNECT_OR_DISCONNECT, EngineSession, WebSocketSessions
from handlers.socket.packets import CONNECT, read_namespace
from server.concurrency.tasks import Tasks
from server.context import Context
from server.errors import ChatError, Internal, NotFound, TokenExpired, Unauthorized, Unavailable
from server.models import Principal
from server.protocol import NAMESPACE, to_wire
from server.realtime.connection import Connection, Transport
from server.realtime.frames import refusal_packet
from server.realtime.hub import Hub
from server.realtime.unsent import Reader

log = logging.getLogger(__name__)

# A longer name is not repeated in an error.
MAX_NAMESPACE_LENGTH: Final = 200
HOW_TO_CONNECT: Final = f'io("https://HOST{NAMESPACE}")'
AUTHORIZATION: Final = "HTTP_AUTHORIZATION"


class Gateway:
    """Opens connections once they have authenticated, and passes their events to the dispatcher."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._hub = context.hub
        settings = context.settings
        self.sessions = EngineSessions(
            context.hub,
            ping_interval=settings.socket.ping_interval,
            ping_timeout=settings.socket.ping_timeout,
            max_payload=settings.server.max_payload,
        )
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._polled_packets = 0
        self._connections = Connections(context, self._tasks)
        self._dispatcher = Dispatcher(context, self._tasks)
        self._websockets = WebSocketSessions(
            self.sessions,
            self,
            self._dispatcher.receive,
            connect_timeout=settings.socket.connect_timeout,
            max_size=settings.server.max_payload,
            max_unsent=settings.socket.max_unsent,
        )

    def attach(self) -> None:
        """Replace the handlers of the Socket.IO server, which keeps only CONNECT and DISCONNECT, and start to serve."""
        server, engine = self.sessions.server, self.sessions.engine
        server.on("connect", self._connect, namespace=NAMESPACE)
        server.on("disconnect", self._disconnect, namespace=NAMESPACE)
        self._receive_other = engine.handlers["message"]
        self._open_session = engine.handlers["connect"]
        self._close_session = engine.handlers["disconnect"]
        engine.on("message", self._receive_polled)
        engine.on("connect", self._session_opened)
        engine.on("disconnect", self.session_closed)
        self._websockets.attach()
        self._hub.attach(self.sessions)
        self.sessions.start()

    async def _session_opened(self, engine_sid: str, environ: Environ) -> Any:
        engine_socket = self.sessions.engine.sockets[engine_sid]
        if environ.get("HTTP_UPGRADE", "").lower() == "websocket":
            disable_pings(engine_socket)
        else:
            max_unsent = self._context.settings.socket.max_unsent
            PolledSocket(engine_socket, max_unsent, PolledClient(self._hub, engine_sid)).attach()
        self._expect_login(engine_sid)
        return await self._open_session(engine_sid, environ)

    async def session_closed(self, engine_sid: str, reason: str) -> None:
        """Handle the end of an Engine.IO session and of the connection on it, if any."""
        engine_socket = self.sessions.engine.sockets.get(engine_sid)
        if engine_socket is not None and not engine_socket.upgraded:
            # A pending poll is answered now instead of at the next ping, and after the CLOSE packet, if any.
            self._loop.call_soon(answer_poll, engine_socket)
        await self._close_session(engine_sid, reason)
        self.sessions.cancel_login(engine_sid)
        transport: PolledSocket | None = getattr(engine_socket, "transport", None)
        if transport is not None:
            # Its unsent bytes are dropped with it.
            self._hub.note_unsent(transport, engine_sid, 0)

    async def connect_or_disconnect(self, engine_sid: str, data: str) -> None:
        """Pass a CONNECT or DISCONNECT to the Socket.IO server. Raises `ValueError` if it is malformed."""
        namespace = read_namespace(data)
        if data[:1] == CONNECT and namespace != NAMESPACE:
            await self._refuse_namespace(engine_sid, namespace)
            return
        try:
            await self._receive_other(engine_sid, data)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    async def _refuse_namespace(self, engine_sid: str, namespace: str) -> None:
        """Send a refusal with a reason; the library's own has no text that clients would show."""
        engine_socket = self.sessions.engine.sockets.get(engine_sid)
        if len(namespace) > MAX_NAMESPACE_LENGTH:
            raise ValueError("too long a namespace")
        if engine_socket is not None and not engine_socket.closed:
            error = NotFound(f"There is no namespace {namespace} here; connect to {NAMESPACE}, as in {HOW_TO_CONNECT}")
            await engine_socket.send(Packet(MESSAGE, refusal_packet(namespace, error.detail, error.body())))

    def _expect_login(self, engine_sid: str) -> None:
        self.sessions.expect_login(engine_sid, self._context.settings.socket.connect_timeout)

    async def _connect(self, sid: str, environ: Environ, auth: Any) -> None:
        _strip(environ)
        engine_sid = self.sessions.server.manager.eio_sid_from_sid(sid, NAMESPACE)
        try:
            principal = await self._connections.authenticate(auth, environ.get(AUTHORIZATION))
        except TokenExpired as error:
            # Every failed authentication has one code; `reason` tells an expired token.
            raise RefusedError(Unauthorized.code, _wire(Unauthorized(error.detail, reason=error.code))) from None
        except ChatError as error:
            self._context.metrics.note_refusal(error)
            raise RefusedError(error.code, _wire(error)) from None
        except TimeoutError:
            raise RefusedError(Unavailable.code, _wire(Unavailable())) from None
        except Exception:
            log.exception("socket authentication failed")
            raise RefusedError(Internal.code, _wire(Internal())) from None
        engine_socket = self.sessions.engine.sockets.get(engine_sid)
        if engine_socket is None or engine_socket.closed or engine_socket.closing:
            # It closed during authentication: accepting it now would leak it.
            raise RefusedError(Unavailable.code, _wire(Unavailable()))
        # The answer to CONNECT is queued when this returns; it must be sent first.
        self._connections.reserve(principal.user_id)
        self._loop.call_soon(self._open, sid, engine_sid, principal)

    def _open(self, sid: str, engine_sid: str, principal: Principal) -> None:
        self._connections.release(principal.user_id)
        engine_socket = self.sessions.engine.sockets.get(engine_sid)
        if engine_socket is None or engine_socket.closed:
            return
        if not self.sessions.server.manager.is_connected(sid, NAMESPACE):
            # It disconnected in the same turn of the event loop: opening it now would leak it.
            return
        self.sessions.cancel_login(engine_sid)
        self._connections.open(Connection(sid, engine_sid, self._transport_of(engine_socket), principal))

    def _transport_of(self, engine_socket: Any) -> Transport:
        if engine_socket.upgraded:
            return cast(EngineSession, engine_socket).websocket
        return cast(PolledSocket, engine_socket.transport)

    async def _disconnect(self, sid: str, _reason: str) -> None:
        connection = self._connections.close(sid)
        if connection is not None:
            self._expect_login(connection.engine_sid)

    async def _receive_polled(self, engine_sid: str, data: Any) -> None:
        """Handle one packet from the body of a polling client."""
        self._polled_packets += 1
        if self._polled_packets % FRAMES_PER_TURN == 0:
            # The library handles all packets of a body without yielding: let others run in between.
            await asyncio.sleep(0)
        if not isinstance(data, str):
            return
        if data[:1] in CONNECT_OR_DISCONNECT:
            try:
                await self.connect_or_disconnect(engine_sid, data)
            except ValueError:
                await self.sessions.drop(engine_sid)
            return
        connection = self._hub.find(engine_sid)
        if connection is not None:
            more = self._dispatcher.receive(connection, data)
            if more is not None:
                await more


class PolledClient:
    """Connects a `PolledSocket` to the connection on its session, if there is one."""

    __slots__ = ("_engine_sid", "_hub")

    def __init__(self, hub: Hub, engine_sid: str) -> None:
        self._hub = hub
        self._engine_sid = engine_sid

    def note_ping(self) -> None:
        self._hub.note_ping(self._engine_sid)

    def take_pong(self, sent_at: float) -> None:
        self._hub.take_pong(self._engine_sid, sent_at)

    def note_unsent(self, reader: Reader, size: int) -> None:
        self._hub.note_unsent(reader, self._engine_sid, size)

    def delivered(self) -> int:
        connection = self._hub.find(self._engine_sid)
        return 0 if connection is None else connection.delivered

    def confirm(self, number: int) -> None:
        connection = self._hub.find(self._engine_sid)
        if connection is not None:
            connection.confirm(number)


def _strip(environ: Environ) -> None:
    """Empty the request data that Socket.IO keeps for the life of a session, except for `Authorization`."""
    authorization = environ.get(AUTHORIZATION)
    environ.clear()
    if authorization is not None:
        # A client may disconnect and connect again on the same session.
        environ[AUTHORIZATION] = authorization


def _wire(error: ChatError) -> Any:
    return to_wire(error.body())
