"""Engine.IO over a WebSocket: the session that stands among the library's own, and the change from long-polling."""

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
from server.protocol import EXCEPTION
from server.realtime.connection import Connection
from server.realtime.frames import event_frame

_PING: Final = Packet(PING).encode()
_CLOSE: Final = Packet(CLOSE).encode()
_PROBE: Final = Packet(PING, "probe").encode()
_PROBE_ANSWER: Final = Packet(PONG, "probe").encode()
_UPGRADE: Final = "5"
# Socket.IO packet types that its own server takes: CONNECT and DISCONNECT.
ENTER_OR_LEAVE: Final = ("0", "1")
# A client that was sent a message is asked whether it is there no later than this, and a look, after it was asked last:
# what it has not confirmed when it goes comes again by its offline queue.
CONFIRM_SECONDS: Final = 2.0

Receive = Callable[[Connection, str], "asyncio.Future[None] | None"]


class Handler(Protocol):
    """The request that became a WebSocket."""

    async def hand_over(self, websocket: WebSocket) -> None:
        """Let `websocket` have the connection. Raises `OSError` where that cannot be."""


class Gate(Protocol):
    """Who lets clients in and counts them out."""

    async def enter_or_leave(self, engine_sid: str, data: str) -> None:
        """Take a CONNECT or DISCONNECT. Raises `ValueError` where it is malformed."""

    async def count_out(self, engine_sid: str, reason: str) -> None: ...


class WebSocketSessions:
    """Begins a session for every WebSocket that Engine.IO has let in, and holds what all of them share."""

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
            await handler.hand_over(websocket)
        except OSError:
            websocket.listener.lost()
            return
        if not engine_socket.connected:
            session.replace(engine_socket)


class EngineSession:
    """Has what Engine.IO's server uses of its own sessions, and neither a task, a timer nor a queue."""

    __slots__ = ("_ask_at", "_asked_at", "_shared", "closed", "closing", "sid", "websocket")
    connected = upgraded = True

    def __init__(self, shared: WebSocketSessions, websocket: WebSocket, sid: str) -> None:
        self._shared = shared
        self.websocket = websocket
        self.sid = sid
        self.closing = self.closed = False
        self._asked_at: float | None = None
        self._ask_at = time.monotonic() + shared.ping_interval

    def replace(self, engine_socket: Any) -> None:
        """Take the place of the library's session: first goes out what waits there, in its order."""
        if engine_socket.closing or self.closing:
            self.websocket.close()
            return
        self._asked_at = engine_socket.last_ping
        for packet in detach_session(engine_socket):
            self.websocket.send_text(packet.encode())
        self._shared.sessions.engine.sockets[self.sid] = self
        connection = self._shared.hub.find(self.sid)
        if connection is not None:
            connection.transport = self.websocket

    def take_text(self, text: str) -> "asyncio.Future[None] | None":
        kind = text[:1]
        if kind == "4":
            if text[1:2] in ENTER_OR_LEAVE:
                done = asyncio.get_running_loop().create_future()
                self._shared.tasks.run(self._enter_or_leave(text[1:], done))
                return done
            connection = self._shared.hub.find(self.sid)
            return None if connection is None else self._shared.receive(connection, text[1:])
        if kind == "3":
            self._take_pong()
        elif kind == "1":
            reason = self._shared.sessions.engine.reason.CLIENT_DISCONNECT
            self._shared.tasks.run(self.close(abort=True, reason=reason))
        elif kind not in ("2", _UPGRADE):
            # PING and UPGRADE do no harm here. Any other type is a protocol error.
            self.websocket.fail(NOT_ACCEPTED)
        return None

    def too_large(self) -> None:
        connection = self._shared.hub.find(self.sid)
        if connection is not None:
            # What it was stays unread, so that its name is not known.
            connection.send(event_frame(EXCEPTION, {**PayloadTooLarge().body(), "event": ""}))

    def note_unsent(self, size: int) -> None:
        self._shared.hub.note_unsent(self.websocket, self.sid, size)

    def lost(self) -> None:
        if not self.closing:
            reason = self._shared.sessions.engine.reason.TRANSPORT_CLOSE
            self._shared.tasks.run(self.close(abort=True, reason=reason))

    async def send(self, packet: Packet) -> None:
        self.websocket.send_text(packet.encode())

    async def check_ping_timeout(self) -> bool:
        """Ask whether the client is there when it is time to, and end the session when it has not answered in time.

        To be called every now and then; False once it has ended.
        """
        self.websocket.check_unsent()
        now = time.monotonic()
        if self._asked_at is None:
            if now >= self._ask_at or (now >= self._confirm_at and self._is_unconfirmed()):
                self._ping()
        elif now - self._asked_at > self._shared.ping_timeout:
            await self.close(reason=self._shared.sessions.engine.reason.PING_TIMEOUT)
        return not self.closed

    def ask(self) -> None:
        """Ask now whether the client is there, unless its answer to an earlier question is missing."""
        if self._asked_at is None:
            self._ping()

    async def close(self, *, abort: bool = False, reason: str | None = None, **_wait: bool) -> None:
        """Count the client out, tell it unless `abort`, and close the WebSocket; there is nothing to wait for."""
        if self.closing:
            return
        self.closing = True
        engine = self._shared.sessions.engine
        try:
            await self._shared.gate.count_out(self.sid, reason or engine.reason.SERVER_DISCONNECT)
        finally:
            self.closed = True
            engine.sockets.pop(self.sid, None)
            if not abort:
                self.websocket.send_text(_CLOSE)
            self.websocket.close()

    async def _enter_or_leave(self, data: str, done: "asyncio.Future[None]") -> None:
        try:
            if not self.closing:
                await self._shared.gate.enter_or_leave(self.sid, data)
        except ValueError:
            self.websocket.fail(NOT_ACCEPTED)
        finally:
            done.set_result(None)

    @property
    def _confirm_at(self) -> float:
        return self._ask_at - self._shared.ping_interval + CONFIRM_SECONDS

    def _is_unconfirmed(self) -> bool:
        connection = self._shared.hub.find(self.sid)
        return connection is not None and connection.is_unconfirmed

    def _ping(self) -> None:
        self._asked_at = time.monotonic()
        self._shared.hub.note_ping(self.sid)
        self.websocket.send_text(_PING)

    def _take_pong(self) -> None:
        sent_at, self._asked_at = self._asked_at, None
        if sent_at is not None:
            self._ask_at = time.monotonic() + self._shared.ping_interval
            self._shared.hub.take_pong(self.sid, sent_at)


class Upgrade:
    """Listens to a WebSocket until it takes over from long-polling: a probe, its answer, and the upgrade."""

    def __init__(self, shared: WebSocketSessions, websocket: WebSocket, engine_socket: Any) -> None:
        self._shared = shared
        self._websocket = websocket
        self._engine_socket = engine_socket
        self._is_probed = False
        self._probe_timeout = asyncio.get_running_loop().call_later(shared.connect_timeout, self._fail)

    def take_text(self, text: str) -> None:
        sessions = self._shared.sessions.engine.sockets
        if sessions.get(self._engine_socket.sid) is not self._engine_socket:
            # It has ended, or another WebSocket was faster.
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
        """Nobody is logged in on this transport yet."""

    def note_unsent(self, size: int) -> None:
        """Nothing is sent on it yet but its own few frames."""

    def lost(self) -> None:
        self._probe_timeout.cancel()
        if self._is_probed:
            self._engine_socket.upgrading = False

    def _fail(self) -> None:
        self._websocket.fail(NOT_ACCEPTED)
