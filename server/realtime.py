"""Who is connected on `/chat`: sending to them, looking after them, ending connections. Makes the Socket.IO server."""

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import engineio
import socketio
from engineio.payload import Payload

from server.confirmations import Confirmations, Span
from server.connection import Connection, Link
from server.engine_socket import PACKETS_PER_BODY
from server.errors import ChatError, TokenExpired
from server.frames import Frame, event_frame
from server.models import Identity
from server.protocol import EXCEPTION, NAMESPACE
from server.tasks import Tasks
from server.unsent import Reader, Unsent

log = logging.getLogger(__name__)

# One loop checks pings, token expiry and missing logins of all connections, this often, in seconds: timers for each
# would take a tenth of what a connection needs.
LOOK_INTERVAL: Final = 1.0
# A ping is late by at most this share of its interval or its timeout.
MAX_LATENESS: Final = 0.25
# Between two polls of a client lies the way there and back.
FAREWELL_SECONDS: Final = 0.5
# At the end, who is to confirm what was sent to them last has this long; a look at whether they have takes a moment.
CONFIRM_SECONDS: Final = 0.5
CONFIRM_LOOK: Final = 0.02
# So that a sum of fractions is not just below a whole second.
ROUNDING: Final = 0.001


class SessionManager(socketio.AsyncManager):  # type: ignore[misc]
    """Has no rooms, as nothing is sent through it: neither one for each client to keep, nor all to be searched."""

    def basic_enter_room(self, sid: str, namespace: str, room: str | None, eio_sid: str | None = None) -> None:
        # The room of the whole namespace is where it looks up who is connected.
        if room is None:
            super().basic_enter_room(sid, namespace, room, eio_sid=eio_sid)

    def basic_disconnect(self, sid: str, namespace: str, **_options: Any) -> None:
        self.basic_leave_room(sid, namespace, None)
        self.callbacks.pop(sid, None)
        for pending in (self.pending_connect, self.pending_disconnect):
            waiting = pending.get(namespace, [])
            if sid in waiting:
                waiting.remove(sid)
                if not waiting:
                    del pending[namespace]


class Removed(NamedTuple):
    """A connection that has ended, and the live deliveries that its user will not confirm any more."""

    connection: Connection
    was_last: bool
    unconfirmed: list[Span]


class Realtime:
    """Every connection on `/chat`, by user. A user is connected while at least one of theirs is open."""

    def __init__(self, *, ping_interval: float, ping_timeout: float, max_payload: int, unsent: Unsent) -> None:
        # The default of 16 packets would drop a larger request whole, without an error.
        Payload.max_decode_packets = PACKETS_PER_BODY
        self.server: Any = socketio.AsyncServer(
            async_mode="tornado",
            namespaces=[NAMESPACE],
            client_manager=SessionManager(),
            # Clients are told whole seconds, rounded down: a short interval would be none, and a ping always late.
            ping_interval=(ping_interval, math.ceil(ping_interval) - ping_interval + ROUNDING),
            ping_timeout=ping_timeout,
            max_http_buffer_size=max_payload,
            # Origins are judged before it is asked (handlers/origins.py).
            cors_allowed_origins=[],
            http_compression=False,
            monitor_clients=False,
        )
        # What waits for those who read slowly, over REST too.
        self.unsent = unsent
        self._by_sid: dict[str, Connection] = {}
        self._by_engine_sid: dict[str, Connection] = {}
        self._by_user: dict[str, list[Connection]] = {}
        # Sessions that nobody has logged in on, with the time by which somebody must, the earliest first.
        self._strangers: dict[str, float] = {}
        self._deliveries = 0
        self._confirmations = Confirmations()
        self._looking: asyncio.Task[None] | None = None
        self._tasks = Tasks()

    @property
    def engine(self) -> engineio.AsyncServer:
        return self.server.eio

    def start(self) -> None:
        self._looking = asyncio.get_running_loop().create_task(self._look_after_all())

    def expect_login(self, engine_sid: str, timeout: float) -> None:
        """End this session unless somebody logs in on it within `timeout` seconds, which is the same for all."""
        self._strangers.pop(engine_sid, None)
        self._strangers[engine_sid] = time.monotonic() + timeout

    def forget_session(self, engine_sid: str) -> None:
        """It has ended; no login is expected any more."""
        self._strangers.pop(engine_sid, None)

    def add(self, connection: Connection) -> bool:
        """Count a connection in; True where it is its user's first."""
        connections = self._by_user.setdefault(connection.user_id, [])
        connections.append(connection)
        connection.begin_deliveries(self._deliveries)
        self._by_sid[connection.sid] = connection
        self._by_engine_sid[connection.engine_sid] = connection
        self._strangers.pop(connection.engine_sid, None)
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
            await self.server.disconnect(connection.sid, namespace=NAMESPACE)

    async def end_session(self, session_id: str, reason: ChatError) -> None:
        """Disconnect every socket of one login session."""
        await self.end([c for c in self._by_sid.values() if c.identity.session_id == session_id], reason)

    async def drop(self, engine_sid: str) -> None:
        """End an Engine.IO session, logged in or not."""
        socket = self.engine.sockets.get(engine_sid)
        if socket is not None and not socket.closed:
            await socket.close(wait=False)

    async def close(self, reason: ChatError) -> None:
        """Send everybody the reason and end their connections. What was sent before has left when this returns.

        Clients reconnect by themselves. They would not after a DISCONNECT of Socket.IO or a CLOSE of Engine.IO.
        """
        if self._looking is not None:
            self._looking.cancel()
        await self._have_confirmed()
        links = [connection.link for connection in self._by_sid.values()]
        farewell = event_frame(EXCEPTION, reason.body())
        for connection in self._by_sid.values():
            connection.send(farewell)
        # A session that has ended answers no poll any more.
        await _wait_sent(links, FAREWELL_SECONDS)
        for engine_socket in list(self.engine.sockets.values()):
            await engine_socket.close(wait=False, abort=True)
        await _wait_sent(links)

    async def _have_confirmed(self) -> None:
        """Ask those who have not confirmed what they were sent last, and give them a moment, so that it is not
        repeated to them when they come back.
        """
        for connection in list(self._by_sid.values()):
            engine_socket = self.engine.sockets.get(connection.engine_sid)
            # Who polls confirms by polling.
            if connection.is_unconfirmed and engine_socket is not None and engine_socket.upgraded:
                engine_socket.ask()
        deadline = time.monotonic() + CONFIRM_SECONDS
        while any(connection.is_unconfirmed for connection in self._by_sid.values()) and time.monotonic() < deadline:
            await asyncio.sleep(CONFIRM_LOOK)

    async def _look_after_all(self) -> None:
        engine = self.engine
        interval = min(LOOK_INTERVAL, MAX_LATENESS * engine.ping_interval, MAX_LATENESS * engine.ping_timeout)
        while True:
            await asyncio.sleep(interval)
            try:
                await self._end_strangers()
                self._end_expired()
            except Exception:
                log.exception("could not look after connections")
            for engine_sid, socket in list(engine.sockets.items()):
                try:
                    if socket.closed:
                        engine.sockets.pop(engine_sid, None)
                    elif not socket.closing:
                        await socket.check_ping_timeout()
                except Exception:
                    log.exception("could not check a connection")

    async def _end_strangers(self) -> None:
        now = time.monotonic()
        late = list(itertools.takewhile(lambda engine_sid: self._strangers[engine_sid] <= now, self._strangers))
        for engine_sid in late:
            self._strangers.pop(engine_sid, None)
            await self.drop(engine_sid)

    def _end_expired(self) -> None:
        now = time.time()
        expired = [
            connection
            for connection in self._by_sid.values()
            if connection.identity.expires_at <= now and connection.is_open
        ]
        if expired:
            self._tasks.run(self.end(expired, TokenExpired()))


async def _wait_sent(links: Iterable[Link], seconds: float | None = None) -> None:
    waits = [asyncio.ensure_future(link.wait_sent()) for link in links]
    if waits:
        _sent, late = await asyncio.wait(waits, timeout=seconds)
        for wait in late:
            wait.cancel()
