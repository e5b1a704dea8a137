"""The only owner of the Socket.IO server: who is connected, sending to them, and ending connections."""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable
from typing import Any, Final

import engineio
import socketio
from engineio.payload import Payload

from server.connection import Connection
from server.errors import ChatError, TokenExpired
from server.frames import Frame, event_frame
from server.models import Identity
from server.protocol import EXCEPTION, NAMESPACE
from server.tasks import Tasks

log = logging.getLogger(__name__)

# Engine.IO looks for dead clients here, not in its own monitor, which wakes up once per socket and cycle.
MONITOR_INTERVAL: Final = 5.0


class SessionManager(socketio.AsyncManager):  # type: ignore[misc]
    """Forgets a client without searching every other client's room, of which there are as many as clients."""

    def basic_disconnect(self, sid: str, namespace: str, **_options: Any) -> None:
        for room in (sid, None):
            self.basic_leave_room(sid, namespace, room)
        self.callbacks.pop(sid, None)
        for pending in (self.pending_connect, self.pending_disconnect):
            waiting = pending.get(namespace, [])
            if sid in waiting:
                waiting.remove(sid)
                if not waiting:
                    del pending[namespace]


class Realtime:
    """Every connection on `/chat`, by user. A user is connected while at least one of theirs is open."""

    def __init__(
        self, *, ping_interval: float, ping_timeout: float, max_payload: int, origins: Collection[str]
    ) -> None:
        # A client that polls sends all it has in one request. The default of 16 packets would drop the request whole,
        # without an error; its size in bytes is bounded anyhow.
        Payload.max_decode_packets = max_payload
        self.server: Any = socketio.AsyncServer(
            async_mode="tornado",
            namespaces=[NAMESPACE],
            client_manager=SessionManager(),
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            max_http_buffer_size=max_payload,
            cors_allowed_origins=list(origins) or None,
            http_compression=False,
            monitor_clients=False,
        )
        self._by_sid: dict[str, Connection] = {}
        self._by_engine_sid: dict[str, Connection] = {}
        self._by_user: dict[str, list[Connection]] = {}
        self._monitor: asyncio.Task[None] | None = None
        self._tasks = Tasks()

    @property
    def engine(self) -> engineio.AsyncServer:
        return self.server.eio

    def start(self) -> None:
        self._monitor = asyncio.get_running_loop().create_task(self._close_dead_clients())

    def add(self, connection: Connection) -> bool:
        """Count a connection in; True where it is its user's first."""
        connections = self._by_user.setdefault(connection.user_id, [])
        connections.append(connection)
        self._by_sid[connection.sid] = connection
        self._by_engine_sid[connection.engine_sid] = connection
        return len(connections) == 1

    def remove(self, sid: str) -> tuple[Connection, bool] | None:
        """Count a connection out; says whether it was its user's last. None where it was never counted in."""
        connection = self._by_sid.pop(sid, None)
        if connection is None:
            return None
        connection.close()
        del self._by_engine_sid[connection.engine_sid]
        connections = self._by_user[connection.user_id]
        connections.remove(connection)
        if not connections:
            del self._by_user[connection.user_id]
        return connection, not connections

    def find(self, engine_sid: str) -> Connection | None:
        return self._by_engine_sid.get(engine_sid)

    def is_connected(self, user_id: str) -> bool:
        return user_id in self._by_user

    def connected_users(self) -> list[str]:
        return list(self._by_user)

    def connections_of(self, user_id: str) -> list[Connection]:
        return list(self._by_user.get(user_id, ()))

    def send(self, user_id: str, frame: Frame, *, skip: Connection | None = None) -> bool:
        """Send to every socket of a user; False where there is none, or none that still takes anything."""
        is_taken = False
        for connection in self._by_user.get(user_id, ()):
            if connection is not skip:
                connection.send(frame)
            is_taken |= connection.is_open
        return is_taken

    def emit(self, user_ids: Iterable[str], event: str, payload: Any, *, skip: Connection | None = None) -> None:
        """Send one event to every socket of these users."""
        frame = event_frame(event, payload)
        for user_id in user_ids:
            self.send(user_id, frame, skip=skip)

    def renew(self, connection: Connection, identity: Identity) -> None:
        """Let a connection live until its (new) token ends, when it is told so and disconnected."""
        connection.identity = identity
        if connection.expiry is not None:
            connection.expiry.cancel()
        loop = asyncio.get_running_loop()
        left = max(0.0, identity.expires_at - time.time())
        connection.expiry = loop.call_later(left, self._expire, connection)

    def _expire(self, connection: Connection) -> None:
        if connection.is_open:
            self._tasks.run(self.end([connection], TokenExpired()))

    async def end(self, connections: Iterable[Connection], reason: ChatError) -> None:
        """Tell each of these connections why, then disconnect it."""
        for connection in list(connections):
            connection.send(event_frame(EXCEPTION, reason.body()))
            connection.flush()
            await self.server.disconnect(connection.sid, namespace=NAMESPACE)

    async def end_session(self, session_id: str, reason: ChatError) -> None:
        """Disconnect every socket of one login session."""
        await self.end([c for c in self._by_sid.values() if c.identity.session_id == session_id], reason)

    async def end_user(self, user_id: str, reason: ChatError) -> None:
        """Disconnect every socket of one user."""
        await self.end(self.connections_of(user_id), reason)

    async def drop(self, engine_sid: str) -> None:
        """End an Engine.IO session, logged in or not."""
        socket = self.engine.sockets.get(engine_sid)
        if socket is not None and not socket.closed:
            await socket.close(wait=False)
            # Ends the writer, and with it the WebSocket, once the CLOSE packet is out.
            socket.queue.put_nowait(None)

    async def close(self, reason: ChatError) -> None:
        """Tell everybody and disconnect them."""
        if self._monitor is not None:
            self._monitor.cancel()
        await self.end(self._by_sid.values(), reason)
        for engine_sid in list(self.engine.sockets):
            await self.drop(engine_sid)

    async def _close_dead_clients(self) -> None:
        while True:
            await asyncio.sleep(min(MONITOR_INTERVAL, self.engine.ping_timeout))
            for engine_sid, socket in list(self.engine.sockets.items()):
                try:
                    if socket.closed:
                        self.engine.sockets.pop(engine_sid, None)
                    elif not socket.closing:
                        await socket.check_ping_timeout()
                except Exception:
                    log.exception("could not check a connection")
