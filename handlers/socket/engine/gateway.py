"""The hooks into Socket.IO's and Engine.IO's servers: sessions that begin and end, CONNECT, and polled packets."""

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
from handlers.socket.engine.websocket_session import ENTER_OR_LEAVE, EngineSession, WebSocketSessions
from handlers.socket.packets import CONNECT, read_namespace
from server.concurrency.tasks import Tasks
from server.context import Context
from server.errors import ChatError, Internal, NotFound, TokenExpired, Unauthorized, Unavailable
from server.models import Identity
from server.protocol import NAMESPACE
from server.realtime.connection import Connection, Transport
from server.realtime.frames import refusal_packet
from server.realtime.hub import Hub
from server.realtime.unsent import Reader

log = logging.getLogger(__name__)

# What is longer is garbage, and not to be said again.
LONGEST_NAMESPACE: Final = 200
HOW_TO_CONNECT: Final = f'io("https://HOST{NAMESPACE}")'
AUTHORIZATION: Final = "HTTP_AUTHORIZATION"


class Gateway:
    """Takes connections in once they have shown a token, and hands their events to the dispatcher."""

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
        self._polled = 0
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
        """Take over what Socket.IO's server receives, except for CONNECT and DISCONNECT themselves; begin to serve."""
        server, engine = self.sessions.server, self.sessions.engine
        server.on("connect", self._connect, namespace=NAMESPACE)
        server.on("disconnect", self._disconnect, namespace=NAMESPACE)
        self._receive_other = engine.handlers["message"]
        self._open_session = engine.handlers["connect"]
        self._close_session = engine.handlers["disconnect"]
        engine.on("message", self._receive_polled)
        engine.on("connect", self._session_opened)
        engine.on("disconnect", self.count_out)
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

    async def count_out(self, engine_sid: str, reason: str) -> None:
        """An Engine.IO session ends, and with it the connection on it, if there is one."""
        engine_socket = self.sessions.engine.sockets.get(engine_sid)
        if engine_socket is not None and not engine_socket.upgraded:
            # A poll that waits is answered now, not at the next ping; after the CLOSE packet, where there is one.
            self._loop.call_soon(answer_poll, engine_socket)
        await self._close_session(engine_sid, reason)
        self.sessions.cancel_login(engine_sid)
        transport: PolledSocket | None = getattr(engine_socket, "transport", None)
        if transport is not None:
            # What waits for it goes with it.
            self._hub.note_unsent(transport, engine_sid, 0)

    async def enter_or_leave(self, engine_sid: str, data: str) -> None:
        """Let Socket.IO's server take a CONNECT or DISCONNECT. Raises `ValueError` where it is malformed."""
        namespace = read_namespace(data)
        if data[:1] == CONNECT and namespace != NAMESPACE:
            await self._refuse_namespace(engine_sid, namespace)
            return
        try:
            await self._receive_other(engine_sid, data)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    async def _refuse_namespace(self, engine_sid: str, namespace: str) -> None:
        """Say what is wrong: the library's own refusal has no words that clients would show."""
        engine_socket = self.sessions.engine.sockets.get(engine_sid)
        if len(namespace) > LONGEST_NAMESPACE:
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
            identity = await self._connections.authenticate(auth, environ.get(AUTHORIZATION))
        except TokenExpired as error:
            # All clients that are refused get one code; the reason tells them apart.
            raise RefusedError(Unauthorized.code, {**Unauthorized(error.detail).body(), "reason": error.code}) from None
        except ChatError as error:
            raise RefusedError(error.code, error.body()) from None
        except TimeoutError:
            raise RefusedError(Unavailable.code, Unavailable().body()) from None
        except Exception:
            log.exception("a connection could not be authenticated")
            raise RefusedError(Internal.code, Internal().body()) from None
        engine_socket = self.sessions.engine.sockets.get(engine_sid)
        if engine_socket is None or engine_socket.closed or engine_socket.closing:
            # It went during authentication: accepting it now would keep it for ever.
            raise RefusedError(Unavailable.code, Unavailable().body())
        # The answer to CONNECT is queued when this returns; nothing may be sent before it.
        self._connections.reserve(identity.user_id)
        self._loop.call_soon(self._open, sid, engine_sid, identity)

    def _open(self, sid: str, engine_sid: str, identity: Identity) -> None:
        self._connections.release(identity.user_id)
        engine_socket = self.sessions.engine.sockets.get(engine_sid)
        if engine_socket is None or engine_socket.closed:
            return
        if not self.sessions.server.manager.is_connected(sid, NAMESPACE):
            # It left again in the same turn of the loop; nobody would ever count it out.
            return
        self.sessions.cancel_login(engine_sid)
        self._connections.open(Connection(sid, engine_sid, self._transport_of(engine_socket), identity))

    def _transport_of(self, engine_socket: Any) -> Transport:
        if engine_socket.upgraded:
            return cast(EngineSession, engine_socket).websocket
        return cast(PolledSocket, engine_socket.transport)

    async def _disconnect(self, sid: str, _reason: str) -> None:
        connection = self._connections.close(sid)
        if connection is not None:
            self._expect_login(connection.engine_sid)

    async def _receive_polled(self, engine_sid: str, data: Any) -> None:
        """What comes in the bodies of polling clients."""
        self._polled += 1
        if self._polled % FRAMES_PER_TURN == 0:
            # Packets of one body come one after the other, and nobody else would have a turn before its end.
            await asyncio.sleep(0)
        if not isinstance(data, str):
            return
        if data[:1] in ENTER_OR_LEAVE:
            try:
                await self.enter_or_leave(engine_sid, data)
            except ValueError:
                await self.sessions.drop(engine_sid)
            return
        connection = self._hub.find(engine_sid)
        if connection is not None:
            more = self._dispatcher.receive(connection, data)
            if more is not None:
                await more


class PolledClient:
    """What the way to a client that polls needs to know, and has to tell, of the connection on its session."""

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
    """Let go of what Socket.IO would keep of the request for as long as the session lives."""
    authorization = environ.get(AUTHORIZATION)
    environ.clear()
    if authorization is not None:
        # Whoever leaves may come again on the same session.
        environ[AUTHORIZATION] = authorization
