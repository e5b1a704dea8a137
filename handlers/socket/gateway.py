"""Connections to `/chat`: logging in, being counted in and out, and what Socket.IO's own server still receives."""

import asyncio
import logging
from typing import Any

from engineio import packet as engine_packet
from socketio.exceptions import ConnectionRefusedError as RefusedError

from handlers.socket.dispatcher import Dispatcher
from server.connection import Connection
from server.context import Context
from server.engine_socket import bound_polls
from server.errors import ChatError, Internal, TokenExpired, Unauthorized, Unavailable
from server.protocol import NAMESPACE
from server.tasks import Tasks

log = logging.getLogger(__name__)


class Gateway:
    """Takes connections in once they have shown a token, and hands their events to the dispatcher."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._realtime = context.realtime
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self.dispatcher = Dispatcher(context, self._tasks)

    def attach(self) -> None:
        """Take over what Socket.IO's server receives, except for CONNECT and DISCONNECT themselves."""
        server, engine = self._realtime.server, self._realtime.engine
        server.on("connect", self._connect, namespace=NAMESPACE)
        server.on("disconnect", self._disconnect, namespace=NAMESPACE)
        self._receive_other = engine.handlers["message"]
        self._open_engine_socket = engine.handlers["connect"]
        self._close_engine_socket = engine.handlers["disconnect"]
        engine.on("message", self._receive_polled)
        engine.on("connect", self._engine_connect)
        engine.on("disconnect", self._engine_disconnect)

    async def _engine_connect(self, engine_sid: str, environ: dict[str, Any]) -> Any:
        handler = environ["tornado.handler"]
        if environ.get("HTTP_UPGRADE", "").lower() == "websocket":
            handler.bind(engine_sid)
        else:
            bound_polls(self._realtime.engine.sockets[engine_sid])
        self._watch_for_login(engine_sid)
        return await self._open_engine_socket(engine_sid, environ)

    async def _engine_disconnect(self, engine_sid: str, reason: str) -> None:
        socket = self._realtime.engine.sockets.get(engine_sid)
        if socket is not None and not socket.upgraded:
            # A poll that waits is answered now, not at the next ping; after the CLOSE packet, where there is one.
            self._loop.call_soon(socket.queue.put_nowait, engine_packet.Packet(engine_packet.NOOP))
        await self._close_engine_socket(engine_sid, reason)

    def _watch_for_login(self, engine_sid: str) -> None:
        self._loop.call_later(
            self._context.settings.socket.connect_timeout,
            lambda: self._tasks.run(self._end_without_login(engine_sid)),
        )

    async def _end_without_login(self, engine_sid: str) -> None:
        if self._realtime.find(engine_sid) is None:
            await self._realtime.drop(engine_sid)

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        request = environ["tornado.handler"].request
        engine_sid = self._realtime.server.manager.eio_sid_from_sid(sid, NAMESPACE)
        try:
            identity = await asyncio.wait_for(
                self._context.accounts.authenticate(_token_of(auth, request.headers.get("Authorization"))),
                self._context.settings.socket.connect_timeout,
            )
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
        connection = Connection(
            sid,
            engine_sid,
            engine_socket,
            identity,
            request.remote_ip or "",
            max_unsent=self._context.settings.socket.max_unsent,
        )
        _shed(environ)
        # The answer to CONNECT is queued when this returns; nothing may be sent before it.
        self._loop.call_soon(self._open, connection)

    def _open(self, connection: Connection) -> None:
        engine_socket = self._realtime.engine.sockets.get(connection.engine_sid)
        if engine_socket is None or engine_socket.closed:
            return
        if not self._realtime.server.manager.is_connected(connection.sid, NAMESPACE):
            # It left again in the same breath; nobody would ever count it out.
            return
        is_first = self._realtime.add(connection)
        if self._context.accounts.is_known_to_be_over(connection.identity):
            # Ended after it was authenticated and before it could be found here.
            self._tasks.run(self._realtime.end([connection], Unauthorized("The session has ended")))
        self._realtime.renew(connection, connection.identity)
        self._tasks.run(self._context.offline.hand_over(connection))
        if is_first:
            self._tasks.run(self._context.presence.come(connection.user_id))

    async def _disconnect(self, sid: str, _reason: str) -> None:
        removed = self._realtime.remove(sid)
        if removed is None:
            return
        connection, was_last = removed
        self._watch_for_login(connection.engine_sid)
        if was_last:
            self._context.typing.end_all(connection.user_id)
            self._context.presence.go(connection.user_id)

    async def _receive_polled(self, engine_sid: str, data: Any) -> None:
        """Whatever comes through Engine.IO itself: all of long-polling, and a WebSocket until it is connected."""
        if not isinstance(data, str):
            return
        if data[:1] in ("0", "1"):
            await self._receive_other(engine_sid, data)
            return
        connection = self._realtime.find(engine_sid)
        if connection is not None:
            more = self.dispatcher.receive(connection, data)
            if more is not None:
                await more


def _shed(environ: dict[str, Any]) -> None:
    """Let go of what Socket.IO would keep of the request for as long as the connection lives."""
    kept: dict[str, Any] = {key: environ[key] for key in ("REQUEST_METHOD", "tornado.handler") if key in environ}
    environ.clear()
    environ.update(kept)


def _token_of(auth: Any, header: str | None) -> str:
    """The token of `auth`, else of the header. Raises `Unauthorized` where there is neither."""
    token = auth.get("token") if isinstance(auth, dict) else None
    if token is None and header is not None:
        scheme, _, credentials = header.partition(" ")
        token = credentials.strip() if scheme.lower() == "bearer" else None
    if not isinstance(token, str) or not token:
        raise Unauthorized
    return token.removeprefix("Bearer ")
