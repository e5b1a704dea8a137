"""The Socket.IO server and its Engine.IO sessions: heartbeat, unauthenticated sessions, and their end."""

import asyncio
import itertools
import logging
import math
import time
from typing import Any, Final

import engineio
import socketio
from engineio.payload import Payload

from handlers.socket.engine.polling import PACKETS_PER_BODY
from server.protocol import NAMESPACE
from server.realtime.hub import Hub

log = logging.getLogger(__name__)

# Seconds between checks of pings, token expiry and missing logins. One loop serves all connections: a timer for each
# would take a tenth of a connection's memory.
HEARTBEAT_INTERVAL: Final = 1.0
# A check is delayed by at most this share of the ping interval or timeout.
MAX_DELAY: Final = 0.25
# Added so that the interval sum is not just below a whole second.
ROUNDING: Final = 0.001


class SessionManager(socketio.AsyncManager):  # type: ignore[misc]
    """Keeps no rooms, as nothing is sent through it: saves one for each client, and a search through all of them."""

    def basic_enter_room(self, sid: str, namespace: str, room: str | None, eio_sid: str | None = None) -> None:
        # The library looks up connected clients in the room of the namespace.
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


class EngineSessions:
    """All Engine.IO sessions, authenticated or not. `server` and `engine` are the objects of the libraries."""

    def __init__(self, hub: Hub, *, ping_interval: float, ping_timeout: float, max_payload: int) -> None:
        # With the default of 16 packets, a larger request would be dropped without an error.
        Payload.max_decode_packets = PACKETS_PER_BODY
        self.hub = hub
        self.server: Any = socketio.AsyncServer(
            async_mode="tornado",
            namespaces=[NAMESPACE],
            client_manager=SessionManager(),
            # Clients are told whole seconds, rounded down: a short interval would be 0, and every ping too late.
            ping_interval=(ping_interval, math.ceil(ping_interval) - ping_interval + ROUNDING),
            ping_timeout=ping_timeout,
            max_http_buffer_size=max_payload,
            # Origins are checked earlier (handlers/origins.py).
            cors_allowed_origins=[],
            http_compression=False,
            monitor_clients=False,
        )
        self.engine: engineio.AsyncServer = self.server.eio
        # Login deadline of unauthenticated sessions, the earliest first.
        self._unauthenticated: dict[str, float] = {}
        self._heartbeat: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the heartbeat."""
        self._heartbeat = asyncio.get_running_loop().create_task(self._beat())

    def expect_login(self, engine_sid: str, timeout: float) -> None:
        """End this session unless a login comes within `timeout` seconds, which must be the same for all sessions."""
        self._unauthenticated.pop(engine_sid, None)
        self._unauthenticated[engine_sid] = time.monotonic() + timeout

    def cancel_login(self, engine_sid: str) -> None:
        """Undo `expect_login`, after the login or the end of the session."""
        self._unauthenticated.pop(engine_sid, None)

    async def disconnect(self, sid: str) -> None:
        await self.server.disconnect(sid, namespace=NAMESPACE)

    def request_pong(self, engine_sid: str) -> None:
        session = self.engine.sockets.get(engine_sid)
        if session is not None and session.upgraded:
            session.request_pong()

    async def drop(self, engine_sid: str) -> None:
        """End a session, authenticated or not."""
        session = self.engine.sockets.get(engine_sid)
        if session is not None and not session.closed:
            await session.close(wait=False)

    def stop_heartbeat(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()

    async def close(self) -> None:
        for session in list(self.engine.sockets.values()):
            await session.close(wait=False, abort=True)

    async def _beat(self) -> None:
        engine = self.engine
        interval = min(HEARTBEAT_INTERVAL, MAX_DELAY * engine.ping_interval, MAX_DELAY * engine.ping_timeout)
        while True:
            await asyncio.sleep(interval)
            try:
                await self._end_unauthenticated()
                self.hub.end_expired()
            except Exception:
                log.exception("ending overdue connections failed")
            for engine_sid, session in list(engine.sockets.items()):
                try:
                    if session.closed:
                        engine.sockets.pop(engine_sid, None)
                    elif not session.closing:
                        await session.check_ping_timeout()
                except Exception:
                    log.exception("connection check failed")

    async def _end_unauthenticated(self) -> None:
        now = time.monotonic()
        due = self._unauthenticated
        for engine_sid in list(itertools.takewhile(lambda engine_sid: due[engine_sid] <= now, due)):
            due.pop(engine_sid, None)
            await self.drop(engine_sid)
