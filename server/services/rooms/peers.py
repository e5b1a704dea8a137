"""Caches each user's rooms and peers: read once per user, then updated as rooms are created."""

import asyncio

from server.concurrency.lru_cache import LruCache
from server.storage.mongo.rooms import MemberStore


class Peers:
    """Keeps the users that were used last. A room that was noted is in every later answer for its members."""

    def __init__(self, members: MemberStore, *, max_cached: int) -> None:
        self._members = members
        self._known: LruCache[str, dict[str, str]] = LruCache(max_cached)
        self._reading: dict[str, asyncio.Task[dict[str, str]]] = {}
        self._noted: dict[str, dict[str, str]] = {}

    async def by_room(self, user_id: str) -> dict[str, str]:
        """The peer in each of the user's rooms, by room id. Raises `Unavailable`."""
        known = self._known.get(user_id)
        if known is not None:
            return dict(known)
        reading = self._reading.get(user_id)
        if reading is None:
            # One read per user at a time: of two, the earlier would lose rooms that were noted since.
            reading = self._reading[user_id] = asyncio.ensure_future(self._read(user_id))
        return dict(await asyncio.shield(reading))

    def note(self, room_id: str, user_ids: tuple[str, ...]) -> None:
        """Add a room whose members are stored."""
        one, other = user_ids
        for user_id, peer_id in (one, other), (other, one):
            for known in self._known.get(user_id), self._noted.get(user_id):
                if known is not None:
                    known[room_id] = peer_id

    async def _read(self, user_id: str) -> dict[str, str]:
        # A room that is created during the read may be missing from the result.
        noted = self._noted[user_id] = {}
        try:
            members = await self._members.of_user(user_id)
        finally:
            del self._noted[user_id], self._reading[user_id]
        known = {member.room_id: member.peer_id for member in members if member.peer_id is not None} | noted
        self._known.put(user_id, known)
        return known
