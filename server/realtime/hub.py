"""The hub: every open connection by user; sends frames to users and ends connections."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Protocol

from server.concurrency.tasks import Tasks
from server.errors import ChatError, TokenExpired
from server.models import Identity
from server.protocol import EXCEPTION
from server.realtime.confirmations import Confirmations, Span
from server.realtime.connection import Connection, Transport
from server.realtime.frames import Frame, event_frame
from server.realtime.unsent import Reader, Unsent

# Between two polls of a client lies the way there and back.
FAREWELL_SECONDS: Final = 0.5
# At shutdown, clients get this long to confirm the last deliveries.
CONFIRM_SECONDS: Final = 0.5
CONFIRM_POLL_INTERVAL: Final = 0.02


class Sessions(Protocol):
    """The transport's sessions that connections live on."""

    async def disconnect(self, sid: str) -> None:
        """End the connection with this id, and leave its session open."""

    def request_pong(self, engine_sid: str) -> None:
        """Ping the client of this session now, unless it answers by polling anyway."""

    async def close(self) -> None:
        """End all sessions without telling clients; none begins afterwards."""


class _NoSessions:
    """Stands in until a transport is attached; there are no connections before that."""

    async def disconnect(self, sid: str) -> None:
        pass

    def request_pong(self, engine_sid: str) -> None:
        pass

    async def close(self) -> None:
        pass


class Removed(NamedTuple):
    """A connection that has ended, and the live deliveries that its user will not confirm any more."""

    connection: Connection
    was_last: bool
    unconfirmed: list[Span]


class Hub:
    """Every connection on `/chat`, by user. A user is connected while at least one of theirs is open."""

    def __init__(self, unsent: Unsent) -> None:
        # Counts what slow readers have not taken yet, over REST too.
        self.unsent = unsent
        self._sessions: Sessions = _NoSessions()
        self._by_sid: dict[str, Connection] = {}
        self._by_engine_sid: dict[str, Connection] = {}
        self._by_user: dict[str, list[Connection]] = {}
        self._deliveries = 0
        self._confirmations = Confirmations()
        self._tasks = Tasks()

    def attach(self, sessions: Sessions) -> None:
        """Name the transport whose sessions the connections live on."""
        self._sessions = sessions

    def add(self, connection: Connection) -> bool:
        """Count a connection in; True where it is its user's first."""
        connections = self._by_user.setdefault(connection.user_id, [])
        connections.append(connection)
        connection.begin_deliveries(self._deliveries)
        self._by_sid[connection.sid] = connection
        self._by_engine_sid[connection.engine_sid] = connection
        return len(connections) == 1

    def remove(self, sid: str) -> Removed | None:
        """Count a connection out. None where it was never counted in."""
        connection = self._by_sid.pop(sid, None)
        if connection is None:
            return None
        connection.close()
        del self._by_engine_sid[connection.engine_sid]
        connections = self._by_user[connection.user_id]
        connections.remove(connection)
        if not connections:
            del self._by_user[connection.user_id]
        unconfirmed = self._confirmations.end(connection, connections, self._deliveries)
        return Removed(connection, not connections, unconfirmed)

    def find(self, engine_sid: str) -> Connection | None:
        return self._by_engine_sid.get(engine_sid)

    def user_ids(self) -> list[str]:
        """Everybody who is connected."""
        return list(self._by_user)

    def is_connected(self, user_id: str) -> bool:
        return user_id in self._by_user

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

    def next_delivery(self) -> int:
        """Begin the delivery of a message; its number is higher than all before."""
        self._deliveries += 1
        return self._deliveries

    def deliver(self, user_id: str, frame: Frame) -> bool:
        """Send the message whose delivery was begun last, which is to be confirmed; False where nobody is connected.

        What a connection that is about to go does not take is unconfirmed at its end, and must not pass by what it was
        sent before on another way.
        """
        connections = self._by_user.get(user_id, ())
        for connection in connections:
            connection.send(frame)
            connection.delivered = self._deliveries
        return bool(connections)

    def confirmed_upto(self, user_id: str) -> int:
        """The delivery up to which this user is owed nothing on open connections."""
        connections = self._by_user.get(user_id)
        return self._confirmations.reached(connections, self._deliveries) if connections else self._deliveries

    def emit(self, user_ids: Iterable[str], event: str, payload: Any, *, skip: Connection | None = None) -> None:
        """Send one event to every socket of these users."""
        frame = event_frame(event, payload)
        for user_id in user_ids:
            self.send(user_id, frame, skip=skip)

    def renew(self, connection: Connection, identity: Identity) -> None:
        """Let a connection live until this token ends, when it is told so and disconnected."""
        connection.identity = identity

    def note_unsent(self, reader: Reader, engine_sid: str, size: int) -> None:
        """So many bytes wait now for the client of this session."""
        connection = self._by_engine_sid.get(engine_sid)
        self.unsent.note(reader, "" if connection is None else connection.user_id, size)

    def note_ping(self, engine_sid: str) -> None:
        """A ping is sent to the client of this session now."""
        connection = self._by_engine_sid.get(engine_sid)
        if connection is not None:
            connection.note_ping()

    def take_pong(self, engine_sid: str, sent_at: float) -> None:
        """The client of this session has answered the ping that was sent at that time of the monotonic clock."""
        connection = self._by_engine_sid.get(engine_sid)
        if connection is not None:
            connection.take_pong(sent_at)

    async def end(self, connections: Iterable[Connection], reason: ChatError) -> None:
        """Tell each of these connections why, then disconnect it."""
        for connection in list(connections):
            connection.send(event_frame(EXCEPTION, reason.body()))
            await self._sessions.disconnect(connection.sid)

    async def end_session(self, session_id: str, reason: ChatError) -> None:
        """Disconnect every socket of one login session."""
        await self.end([c for c in self._by_sid.values() if c.identity.session_id == session_id], reason)

    async def close(self, reason: ChatError) -> None:
        """Send everybody the reason and end their connections. What was sent before has left when this returns.

        Clients reconnect by themselves. They would not after a DISCONNECT of Socket.IO or a CLOSE of Engine.IO.
        """
        await self._have_confirmed()
        transports = [connection.transport for connection in self._by_sid.values()]
        farewell = event_frame(EXCEPTION, reason.body())
        for connection in self._by_sid.values():
            connection.send(farewell)
        # A session that has ended answers no poll any more.
        await _wait_sent(transports, FAREWELL_SECONDS)
        await self._sessions.close()
        await _wait_sent(transports)

    async def _have_confirmed(self) -> None:
        """Ask those who have not confirmed what they were sent last, and give them a moment, so that it is not
        repeated to them when they come back.
        """
        for connection in list(self._by_sid.values()):
            if connection.is_unconfirmed:
                self._sessions.request_pong(connection.engine_sid)
        deadline = time.monotonic() + CONFIRM_SECONDS
        while any(connection.is_unconfirmed for connection in self._by_sid.values()) and time.monotonic() < deadline:
            await asyncio.sleep(CONFIRM_POLL_INTERVAL)

    def end_expired(self) -> None:
        """End the connections whose token has expired, and tell them so."""
        now = time.time()
        expired = [
            connection
            for connection in self._by_sid.values()
            if connection.identity.expires_at <= now and connection.is_open
        ]
        if expired:
            self._tasks.run(self.end(expired, TokenExpired()))


async def _wait_sent(transports: Iterable[Transport], seconds: float | None = None) -> None:
    waits = [asyncio.ensure_future(transport.wait_sent()) for transport in transports]
    if waits:
        _sent, late = await asyncio.wait(waits, timeout=seconds)
        for wait in late:
            wait.cancel()
