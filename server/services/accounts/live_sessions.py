"""Which login sessions are alive, cached, and how they end."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from server.concurrency.ttl_cache import TtlCache
from server.storage.mongo.sessions import Session, Sessions

CACHED_SESSIONS: Final = 50_000
# Seconds until other processes see the end of a session. This process sees it at once.
CACHE_AGE: Final = 30.0

EndSession = Callable[[str], Awaitable[None]]


class LiveState(msgspec.Struct, frozen=True):
    """The part of a session that authentication needs."""

    user_id: str
    is_live: bool


class LiveSessions:
    """`end_session(session_id)` disconnects the sockets of a session that has ended."""

    def __init__(self, sessions: Sessions, end_session: EndSession) -> None:
        self._sessions = sessions
        self._end_session = end_session
        self._live: TtlCache[str, LiveState] = TtlCache(CACHED_SESSIONS, CACHE_AGE)

    def cached(self, session_id: str) -> LiveState | None:
        return self._live.get(session_id)

    async def find(self, session_id: str) -> LiveState | None:
        """The state of a session; None if it does not exist. A cached one costs no database call."""
        state = self._live.get(session_id)
        if state is not None:
            return state
        session = await self._sessions.find(session_id)
        return (
            None if session is None else self._live.fill(session.id, LiveState(session.user_id, not session.is_ended))
        )

    async def insert(self, session: Session) -> None:
        await self._sessions.insert(session)
        self._live.put(session.id, LiveState(session.user_id, True))

    def note_renewed(self, session_id: str, user_id: str) -> None:
        """It was alive when its refresh token was exchanged."""
        self._live.fill(session_id, LiveState(user_id, True))

    async def end(self, session_id: str, user_id: str) -> None:
        """End a session: its tokens and its sockets."""
        await self._sessions.end([session_id])
        await self._drop(session_id, user_id)

    async def end_all(self, user_id: str, *, but: str | None = None) -> None:
        """End the sessions of a user, `but` one."""
        ended = [session.id for session in await self._sessions.find_live(user_id) if session.id != but]
        await self._sessions.end(ended)
        for session_id in ended:
            await self._drop(session_id, user_id)

    async def _drop(self, session_id: str, user_id: str) -> None:
        self._live.put(session_id, LiveState(user_id, False))
        await self._end_session(session_id)
