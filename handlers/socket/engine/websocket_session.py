"""Engine.IO over a WebSocket: the session that replaces the library's, and the upgrade from long-polling."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from engineio.packet import CLOSE, PING, PONG, Packet

from handlers.socket.engine.polling import Environ, answer_poll, detach_session, use_websockets
from handlers.socket.engine.sessions import EngineSessions
from handlers.socket.engine.websocket import WebSocket
from handlers.socket.engine.websocket_protocol import NOT_ACCEPTED
from server.concurrency.tasks import Tasks
from server.errors import PayloadTooLarge
from server.events import EXCEPTION
from server.realtime.connection import Connection
from server.realtime.frames import event_frame

_PING: Final = Packet(PING).encode()
_CLOSE: Final = Packet(CLOSE).encode()
_PROBE: Final = Packet(PING, "probe").encode()
_PROBE_ANSWER: Final = Packet(PONG, "probe").encode()
_UPGRADE: Final = "5"
# Socket.IO packet types that the library handles: CONNECT and DISCONNECT.
CONNECT_OR_DISCONNECT: Final = ("0", "1")
# A client with unconfirmed deliveries is pinged so many seconds after the last pong, at the next heartbeat. Deliveries
# unconfirmed at its disconnect are repeated by the offline queue.
CONFIRM_SECONDS: Final = 2.0

Receive = Callable[[Connection, str], "asyncio.Future[None] | None"]


class Handler(Protocol):
    """The request that became a WebSocket."""

    async def transfer_connection(self, websocket: WebSocket) -> None:
        """Give the TCP connection to `websocket`. Raises `OSError` if it is closed or cannot be duplicated."""


class Gate(Protocol):
    """The gateway, as sessions see it."""

    async def connect_or_disconnect(self, engine_sid: str, data: str) -> None:
        """Handle a CONNECT or DISCONNECT. Raises `ValueError` if it is malformed."""

    async def session_closed(self, engine_sid: str, reason: str) -> None:
        """Handle the end of a session."""


class WebSocketSessions:
    """Creates a session for every WebSocket that Engine.IO accepted, and holds what all sessions share."""

    def __init__(
        self,
        sessions: EngineSessions,
        gate: Gate,
        receive: Receive,
        *,
        connect_timeout: float,
        max_size: int,
        max_unsent: int,
    ) -> None:
        self.sessions = sessions
        self.hub = sessions.hub
        self.gate = gate
        self.receive = receive
        self.connect_timeout = connect_timeout
        self.ping_interval: float = sessions.engine.ping_interval
        self.ping_timeout: float = sessions.engine.ping_timeout
        self.tasks = Tasks()
        self._max_size = max_size
        self._max_unsent = max_unsent

    def attach(self) -> None:
        use_websockets(self.sessions.engine, self._begin)

    async def _begin(self, engine_socket: Any, environ: Environ) -> None:
        handler: Handler = environ["tornado.handler"]
        websocket = WebSocket(max_size=self._max_size, max_unsent=self._max_unsent)
        if engine_socket.connected:
            websocket.listener = Upgrade(self, websocket, engine_socket)
        else:
            websocket.listener = session = EngineSession(self, websocket, engine_socket.sid)
        try:
            await handler.transfer_connection(websocket)
        except OSError:
            websocket.listener.lost()
            return
        if not engine_socket.connected:
            session.replace(engine_socket)


class EngineSession:
    """Replaces the library's session: has the interface that its server uses, without a task, timer or queue."""

    __slots__ = ("_next_ping_at", "_pinged_at", "_shared", "closed", "closing", "sid", "websocket")
    connected = upgraded = True

    def __init__(self, shared: WebSocketSessions, websocket: WebSocket, sid: str) -> None:
        self._shared = shared
        self.websocket = websocket
        self.sid = sid
        self.closing = self.closed = False
        self._pinged_at: float | None = None
        self._next_ping_at = time.monotonic() + shared.ping_interval

    def replace(self, engine_socket: Any) -> None:
        """Replace the library's session, after sending its queued packets in order."""
        if engine_socket.closing or self.closing:
            self.websocket.close()
            return
        self._pinged_at = engine_socket.last_ping
        for packet in detach_session(engine_socket):
            self.websocket.send_text(packet.encode())
        self._shared.sessions.engine.sockets[self.sid] = self
        connection = self._shared.hub.find(self.sid)
        if connection is not None:
            connection.transport = self.websocket

    def take_text(self, text: str) -> "asyncio.Future[None] | None":
        kind = text[:1]
        if kind == "4":
            if text[1:2] in CONNECT_OR_DISCONNECT:
                done = asyncio.get_running_loop().create_future()
                self._shared.tasks.run(self._connect_or_disconnect(text[1:], done))
                return done
            connection = self._shared.hub.find(self.sid)
            return None if connection is None else self._shared.receive(connection, text[1:])
        if kind == "3":
            self._take_pong()
        elif kind == "1":
            reason = self._shared.sessions.engine.reason.CLIENT_DISCONNECT
            self._shared.tasks.run(self.close(abort=True, reason=reason))
        elif kind not in ("2", _UPGRADE):
            # PING and UPGRADE are ignored. Any other type is a protocol error.
            self.websocket.fail(NOT_ACCEPTED)
        return None

    def too_large(self) -> None:
        connection = self._shared.hub.find(self.sid)
        if connection is not None:
            # The message is not read, so its event name is unknown.
            connection.send(event_frame(EXCEPTION, PayloadTooLarge().body("")))

    def note_unsent(self, size: int) -> None:
        self._shared.hub.note_unsent(self.websocket, self.sid, size)

    def lost(self) -> None:
        if not self.closing:
            reason = self._shared.sessions.engine.reason.TRANSPORT_CLOSE
            self._shared.tasks.run(self.close(abort=True, reason=reason))

    async def send(self, packet: Packet) -> None:
        self.websocket.send_text(packet.encode())

    async def check_ping_timeout(self) -> bool:
        """Ping the client when due, and end the session if a ping was not answered in time.

        Called by the heartbeat; False once the session has ended.
        """
        self.websocket.check_unsent()
        now = time.monotonic()
        if self._pinged_at is None:
            if now >= self._next_ping_at or (now >= self._confirm_at and self._is_unconfirmed()):
                self._ping()
        elif now - self._pinged_at > self._shared.ping_timeout:
            await self.close(reason=self._shared.sessions.engine.reason.PING_TIMEOUT)
        return not self.closed

    def request_pong(self) -> None:
        """Ping the client now, unless an earlier ping is unanswered."""
        if self._pinged_at is None:
            self._ping()

    async def close(self, *, abort: bool = False, reason: str | None = None, **_wait: bool) -> None:
        """End the session, send CLOSE unless `abort`, and close the WebSocket without waiting for the client."""
        if self.closing:
            return
        self.closing = True
        engine = self._shared.sessions.engine
        try:
            await self._shared.gate.session_closed(self.sid, reason or engine.reason.SERVER_DISCONNECT)
        finally:
            self.closed = True
            engine.sockets.pop(self.sid, None)
            if not abort:
                self.websocket.send_text(_CLOSE)
            self.websocket.close()

    async def _connect_or_disconnect(self, data: str, done: "asyncio.Future[None]") -> None:
        try:
            if not self.closing:
                await self._shared.gate.connect_or_disconnect(self.sid, data)
        except ValueError:
            self.websocket.fail(NOT_ACCEPTED)
        finally:
            done.set_result(None)

    @property
    def _confirm_at(self) -> float:
        return self._next_ping_at - self._shared.ping_interval + CONFIRM_SECONDS

    def _is_unconfirmed(self) -> bool:
        connection = self._shared.hub.find(self.sid)
        return connection is not None and connection.is_unconfirmed

    def _ping(self) -> None:
        self._pinged_at = time.monotonic()
        self._shared.hub.note_ping(self.sid)
        self.websocket.send_text(_PING)

    def _take_pong(self) -> None:
        sent_at, self._pinged_at = self._pinged_at, None
        if sent_at is not None:
            self._next_ping_at = time.monotonic() + self._shared.ping_interval
            self._shared.hub.take_pong(self.sid, sent_at)


class Upgrade:
    """Listener of a WebSocket during the upgrade from long-polling: answers the probe, then starts the session."""

    def __init__(self, shared: WebSocketSessions, websocket: WebSocket, engine_socket: Any) -> None:
        self._shared = shared
        self._websocket = websocket
        self._engine_socket = engine_socket
        self._is_probed = False
        self._probe_timeout = asyncio.get_running_loop().call_later(shared.connect_timeout, self._fail)

    def take_text(self, text: str) -> None:
        sessions = self._shared.sessions.engine.sockets
        if sessions.get(self._engine_socket.sid) is not self._engine_socket:
            # The session has ended, or another WebSocket was faster.
            self._fail()
        elif text == _PROBE and not self._is_probed:
            self._is_probed = self._engine_socket.upgrading = True
            self._websocket.send_text(_PROBE_ANSWER)
            answer_poll(self._engine_socket)
        elif text == _UPGRADE and self._is_probed:
            self._probe_timeout.cancel()
            session = EngineSession(self._shared, self._websocket, self._engine_socket.sid)
            self._websocket.listener = session
            session.replace(self._engine_socket)
        else:
            self._fail()

    def too_large(self) -> None:
        """Not reported: no connection uses this WebSocket yet."""

    def note_unsent(self, size: int) -> None:
        """Not counted: only a few control packets are sent yet."""

    def lost(self) -> None:
        self._probe_timeout.cancel()
        if self._is_probed:
            self._engine_socket.upgrading = False

    def _fail(self) -> None:
        self._websocket.fail(NOT_ACCEPTED)
