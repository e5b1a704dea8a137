"""The hub: every open connection by user; sends frames to users and ends connections."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Protocol

from server.concurrency.tasks import Tasks
from server.errors import ChatError, TokenExpired
from server.events import EXCEPTION
from server.models import Principal
from server.realtime.confirmations import Confirmations, Span
from server.realtime.connection import Connection, Transport
from server.realtime.fan_out import Delivered
from server.realtime.frames import Frame, event_frame
from server.realtime.unsent import Reader, Unsent

# At shutdown, clients get this long to receive the reason: between two polls lies a round trip.
CLOSE_NOTICE_SECONDS: Final = 0.5
# At shutdown, clients get this long to confirm the last deliveries.
CONFIRM_SECONDS: Final = 0.5
CONFIRM_POLL_INTERVAL: Final = 0.02


class Sessions(Protocol):
    """The Engine.IO sessions of the connections."""

    async def disconnect(self, sid: str) -> None:
        """End the connection with this id and keep its session open."""

    def request_pong(self, engine_sid: str) -> None:
        """Ping the client of this session now; a polling client confirms by its polls and gets none."""

    def stop_heartbeat(self) -> None:
        """End no session any more for its silence, an expired token or a missing login."""

    async def close(self) -> None:
        """End all sessions without notifying clients."""


class _NoSessions:
    """Used until `attach`; there are no connections before that."""

    async def disconnect(self, sid: str) -> None:
        pass

    def request_pong(self, engine_sid: str) -> None:
        pass

    def stop_heartbeat(self) -> None:
        pass

    async def close(self) -> None:
        pass


class Removed(NamedTuple):
    """A connection that has ended, and the live deliveries that stay unconfirmed."""

    connection: Connection
    was_last: bool
    unconfirmed: list[Span]


class Hub:
    """Every connection on `/chat`, by user. A user is connected while at least one of theirs is open.

    It is the `FanOut` of this server.
    """

    def __init__(self, unsent: Unsent) -> None:
        # Counts unsent bytes of slow readers, of REST too.
        self.unsent = unsent
        self._sessions: Sessions = _NoSessions()
        self._by_sid: dict[str, Connection] = {}
        self._by_engine_sid: dict[str, Connection] = {}
        self._by_user: dict[str, list[Connection]] = {}
        self._deliveries = 0
        self._confirmations = Confirmations()
        self._tasks = Tasks()

    def attach(self, sessions: Sessions) -> None:
        """Set the sessions of the connections."""
        self._sessions = sessions

    def add(self, connection: Connection) -> bool:
        """Add a connection; True if it is its user's first."""
        connections = self._by_user.setdefault(connection.user_id, [])
        connections.append(connection)
        connection.begin_deliveries(self._deliveries)
        self._by_sid[connection.sid] = connection
        self._by_engine_sid[connection.engine_sid] = connection
        return len(connections) == 1

    def remove(self, sid: str) -> Removed | None:
        """Remove a connection; None if it was never added."""
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

    def count_by_transport(self) -> dict[str, int]:
        """Open connections by the kind of their transport."""
        return dict(Counter(connection.transport.kind for connection in self._by_sid.values()))

    def user_ids(self) -> list[str]:
        """All connected users."""
        return list(self._by_user)

    def is_connected(self, user_id: str) -> bool:
        return user_id in self._by_user

    def connections_of(self, user_id: str) -> list[Connection]:
        return list(self._by_user.get(user_id, ()))

    def send(self, user_ids: Iterable[str], frame: Frame, *, skip: Connection | None = None) -> None:
        """As `FanOut.send`."""
        for user_id in user_ids:
            for connection in self._by_user.get(user_id, ()):
                if connection is not skip:
                    connection.send(frame)

    def deliver(self, user_ids: Iterable[str], frame: Frame) -> Delivered:
        """As `FanOut.deliver`."""
        self._deliveries += 1
        missed = []
        for user_id in user_ids:
            connections = self._by_user.get(user_id)
            if connections is None:
                missed.append(user_id)
                continue
            for connection in connections:
                connection.send(frame)
                connection.delivered = self._deliveries
        return Delivered(self._deliveries, missed)

    def confirmed_upto(self, user_id: str) -> int:
        """The delivery number up to which this user's open connections have confirmed everything."""
        connections = self._by_user.get(user_id)
        return self._confirmations.reached(connections, self._deliveries) if connections else self._deliveries

    def emit(self, user_ids: Iterable[str], event: str, payload: Any, *, skip: Connection | None = None) -> None:
        """As `FanOut.emit`."""
        self.send(user_ids, event_frame(event, payload), skip=skip)

    def renew(self, connection: Connection, principal: Principal) -> None:
        """Continue a connection under this principal; `end_expired` ends it when the token expires."""
        connection.principal = principal

    def note_unsent(self, reader: Reader, engine_sid: str, size: int) -> None:
        """Note that `size` bytes are unsent now to the client of this session."""
        connection = self._by_engine_sid.get(engine_sid)
        self.unsent.note(reader, "" if connection is None else connection.user_id, size)

    def note_ping(self, engine_sid: str) -> None:
        """Note that a ping is sent now to the client of this session."""
        connection = self._by_engine_sid.get(engine_sid)
        if connection is not None:
            connection.note_ping()

    def take_pong(self, engine_sid: str, sent_at: float) -> None:
        """Handle the answer of this session's client to the ping sent at `sent_at` (monotonic clock)."""
        connection = self._by_engine_sid.get(engine_sid)
        if connection is not None:
            connection.take_pong(sent_at)

    async def end(self, connections: Iterable[Connection], reason: ChatError) -> None:
        """Send each of these connections the reason, then disconnect it."""
        for connection in list(connections):
            connection.send(event_frame(EXCEPTION, reason.body()))
            await self._sessions.disconnect(connection.sid)

    async def end_session(self, session_id: str, reason: ChatError) -> None:
        """Disconnect every socket of one login session."""
        await self.end([c for c in self._by_sid.values() if c.principal.session_id == session_id], reason)

    async def close(self, reason: ChatError) -> None:
        """Send all clients the reason and end their sessions. Everything sent before has left when this returns.

        Clients reconnect by themselves. They would not after a DISCONNECT of Socket.IO or a CLOSE of Engine.IO.
        """
        self._sessions.stop_heartbeat()
        await self._request_confirmations()
        transports = [connection.transport for connection in self._by_sid.values()]
        notice = event_frame(EXCEPTION, reason.body())
        for connection in self._by_sid.values():
            connection.send(notice)
        # An ended session answers no more polls, so wait first.
        await _wait_sent(transports, CLOSE_NOTICE_SECONDS)
        await self._sessions.close()
        await _wait_sent(transports)

    async def _request_confirmations(self) -> None:
        """Ping clients with unconfirmed deliveries and wait up to `CONFIRM_SECONDS` for their answers, so that these
        deliveries are not repeated when they reconnect.
        """
        for connection in list(self._by_sid.values()):
            if connection.is_unconfirmed:
                self._sessions.request_pong(connection.engine_sid)
        deadline = time.monotonic() + CONFIRM_SECONDS
        while any(connection.is_unconfirmed for connection in self._by_sid.values()) and time.monotonic() < deadline:
            await asyncio.sleep(CONFIRM_POLL_INTERVAL)

    def end_expired(self) -> None:
        """Send `TokenExpired` to connections whose token has expired, and end them."""
        now = time.time()
        expired = [
            connection
            for connection in self._by_sid.values()
            if connection.principal.expires_at <= now and connection.is_open
        ]
        if expired:
            self._tasks.run(self.end(expired, TokenExpired()))


async def _wait_sent(transports: Iterable[Transport], seconds: float | None = None) -> None:
    waits = [asyncio.ensure_future(transport.wait_sent()) for transport in transports]
    if waits:
        _sent, pending = await asyncio.wait(waits, timeout=seconds)
        for wait in pending:
            wait.cancel()
