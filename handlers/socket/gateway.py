"""Connections to `/chat`: logging in, being counted in and out, and what Socket.IO's own server still receives."""

import asyncio
import logging
from collections import Counter
from typing import Any, Final, cast

from engineio.packet import MESSAGE, Packet
from socketio.exceptions import ConnectionRefusedError as RefusedError

from handlers.socket.dispatcher import Dispatcher
from handlers.socket.engine_session import ENTER_OR_LEAVE, EngineSession, WebSocketSessions
from handlers.socket.packets import CONNECT, read_namespace
from handlers.socket.websocket import FRAMES_PER_TURN
from server.connection import Connection, Link
from server.context import Context
from server.engine_socket import Environ, PolledSocket, answer_poll, let_rest
from server.errors import ChatError, Internal, NotFound, RateLimited, TokenExpired, Unauthorized, Unavailable
from server.frames import refusal_packet
from server.models import Identity
from server.protocol import NAMESPACE
from server.realtime import Realtime
from server.tasks import Tasks
from server.unsent import Reader

log = logging.getLogger(__name__)

# What is longer is garbage, and not to be said again.
LONGEST_NAMESPACE: Final = 200
HOW_TO_CONNECT: Final = f'io("https://HOST{NAMESPACE}")'
AUTHORIZATION: Final = "HTTP_AUTHORIZATION"


class Gateway:
    """Takes connections in once they have shown a token, and hands their events to the dispatcher."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._realtime = context.realtime
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._polled = 0
        # Sockets that are let in and not counted in yet, by user.
        self._opening: Counter[str] = Counter()
        self._dispatcher = Dispatcher(context, self._tasks)
        self._sessions = WebSocketSessions(
            context.realtime,
            self,
            self._dispatcher.receive,
            connect_timeout=context.settings.socket.connect_timeout,
            max_size=context.settings.server.max_payload,
            max_unsent=context.settings.socket.max_unsent,
        )

    def attach(self) -> None:
        """Take over what Socket.IO's server receives, except for CONNECT and DISCONNECT themselves."""
        server, engine = self._realtime.server, self._realtime.engine
        server.on("connect", self._connect, namespace=NAMESPACE)
        server.on("disconnect", self._disconnect, namespace=NAMESPACE)
        self._receive_other = engine.handlers["message"]
        self._open_session = engine.handlers["connect"]
        self._close_session = engine.handlers["disconnect"]
        engine.on("message", self._receive_polled)
        engine.on("connect", self._session_opened)
        engine.on("disconnect", self.count_out)
        self._sessions.attach()

    async def _session_opened(self, engine_sid: str, environ: Environ) -> Any:
        engine_socket = self._realtime.engine.sockets[engine_sid]
        if environ.get("HTTP_UPGRADE", "").lower() == "websocket":
            let_rest(engine_socket)
        else:
            max_unsent = self._context.settings.socket.max_unsent
            PolledSocket(engine_socket, max_unsent, PolledClient(self._realtime, engine_sid)).attach()
        self._expect_login(engine_sid)
        return await self._open_session(engine_sid, environ)

    async def count_out(self, engine_sid: str, reason: str) -> None:
        """An Engine.IO session ends, and with it the connection on it, if there is one."""
        engine_socket = self._realtime.engine.sockets.get(engine_sid)
        if engine_socket is not None and not engine_socket.upgraded:
            # A poll that waits is answered now, not at the next ping; after the CLOSE packet, where there is one.
            self._loop.call_soon(answer_poll, engine_socket)
        await self._close_session(engine_sid, reason)
        self._realtime.forget_session(engine_sid)
        link: PolledSocket | None = getattr(engine_socket, "link", None)
        if link is not None:
            # What waits for it goes with it.
            self._realtime.note_unsent(link, engine_sid, 0)

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
        engine_socket = self._realtime.engine.sockets.get(engine_sid)
        if len(namespace) > LONGEST_NAMESPACE:
            raise ValueError("too long a namespace")
        if engine_socket is not None and not engine_socket.closed:
            error = NotFound(f"There is no namespace {namespace} here; connect to {NAMESPACE}, as in {HOW_TO_CONNECT}")
            await engine_socket.send(Packet(MESSAGE, refusal_packet(namespace, error.detail, error.body())))

    def _expect_login(self, engine_sid: str) -> None:
        self._realtime.expect_login(engine_sid, self._context.settings.socket.connect_timeout)

    async def _connect(self, sid: str, environ: Environ, auth: Any) -> None:
        _shed(environ)
        engine_sid = self._realtime.server.manager.eio_sid_from_sid(sid, NAMESPACE)
        try:
            identity = await asyncio.wait_for(
                self._context.accounts.authenticate(_token_of(auth, environ.get(AUTHORIZATION))),
                self._context.settings.socket.connect_timeout,
            )
            self._context.limits.check_event(identity.user_id)
            self._check_sockets(identity.user_id)
        except TokenExpired as error:
            # Whoever is not let in is told one code; why is told beside it.
            raise RefusedError(Unauthorized.code, {**Unauthorized(error.detail).body(), "reason": error.code}) from None
        except ChatError as error:
            raise RefusedError(error.code, error.body()) from None
        except TimeoutError:
            raise RefusedError(Unavailable.code, Unavailable().body()) from None
        except Exception:
            log.exception("a connection could not be authenticated")
            raise RefusedError(Internal.code, Internal().body()) from None
        engine_socket = self._realtime.engine.sockets.get(engine_sid)
        if engine_socket is None or engine_socket.closed or engine_socket.closing:
            # Gone while it was authenticated: accepting it now would keep it for ever.
            raise RefusedError(Unavailable.code, Unavailable().body())
        # The answer to CONNECT is queued when this returns; nothing may be sent before it.
        self._opening[identity.user_id] += 1
        self._loop.call_soon(self._open, sid, engine_sid, identity)

    def _check_sockets(self, user_id: str) -> None:
        """Raise `RateLimited` where the user has as many sockets as they may have."""
        settings = self._context.settings.socket
        count = len(self._realtime.connections_of(user_id)) + self._opening[user_id]
        if self._context.settings.limits.enabled and count >= settings.max_per_user:
            # Those that have died without a word are counted out by then.
            retry_after = settings.ping_interval + settings.ping_timeout
            raise RateLimited("Too many sockets of one user", retry_after=retry_after)

    def _open(self, sid: str, engine_sid: str, identity: Identity) -> None:
        self._opening -= Counter((identity.user_id,))
        engine_socket = self._realtime.engine.sockets.get(engine_sid)
        if engine_socket is None or engine_socket.closed:
            return
        if not self._realtime.server.manager.is_connected(sid, NAMESPACE):
            # It left again in the same breath; nobody would ever count it out.
            return
        connection = Connection(sid, engine_sid, self._link_to(engine_socket), identity)
        is_first = self._realtime.add(connection)
        if self._context.accounts.is_known_to_be_over(identity):
            # Ended after it was authenticated and before it could be found here.
            self._tasks.run(self._realtime.end([connection], Unauthorized("The session has ended")))
        self._tasks.run(self._context.offline.hand_over(connection))
        if is_first:
            self._tasks.run(self._context.presence.come(connection.user_id))

    def _link_to(self, engine_socket: Any) -> Link:
        if engine_socket.upgraded:
            return cast(EngineSession, engine_socket).websocket
        return cast(PolledSocket, engine_socket.link)

    async def _disconnect(self, sid: str, _reason: str) -> None:
        removed = self._realtime.remove(sid)
        if removed is None:
            return
        connection, was_last, unconfirmed = removed
        self._context.unconfirmed.requeue(connection.user_id, unconfirmed)
        self._expect_login(connection.engine_sid)
        if was_last:
            self._context.typing.end_all(connection.user_id)
            self._context.presence.go(connection.user_id)

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
                await self._realtime.drop(engine_sid)
            return
        connection = self._realtime.find(engine_sid)
        if connection is not None:
            more = self._dispatcher.receive(connection, data)
            if more is not None:
                await more


class PolledClient:
    """What the way to a client that polls needs to know, and has to tell, of the connection on its session."""

    __slots__ = ("_engine_sid", "_realtime")

    def __init__(self, realtime: Realtime, engine_sid: str) -> None:
        self._realtime = realtime
        self._engine_sid = engine_sid

    def note_ping(self) -> None:
        self._realtime.note_ping(self._engine_sid)

    def take_pong(self, sent_at: float) -> None:
        self._realtime.take_pong(self._engine_sid, sent_at)

    def note_unsent(self, reader: Reader, size: int) -> None:
        self._realtime.note_unsent(reader, self._engine_sid, size)

    def delivered(self) -> int:
        connection = self._realtime.find(self._engine_sid)
        return 0 if connection is None else connection.delivered

    def confirm(self, number: int) -> None:
        connection = self._realtime.find(self._engine_sid)
        if connection is not None:
            connection.confirm(number)


def _shed(environ: Environ) -> None:
    """Let go of what Socket.IO would keep of the request for as long as the session lives."""
    authorization = environ.get(AUTHORIZATION)
    environ.clear()
    if authorization is not None:
        # Whoever leaves may come again on the same session.
        environ[AUTHORIZATION] = authorization


def _token_of(auth: Any, header: str | None) -> str:
    """The token of `auth`, else of the header. Raises `Unauthorized` where there is neither."""
    token = auth.get("token") if isinstance(auth, dict) else None
    if token is None and header is not None:
        scheme, _, credentials = header.partition(" ")
        token = credentials.strip() if scheme.lower() == "bearer" else None
    if not isinstance(token, str) or not token:
        raise Unauthorized
    return token.removeprefix("Bearer ")
