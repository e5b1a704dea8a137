"""Caches each user's rooms: read once per user, then updated as people come and go."""

import asyncio
from collections.abc import Collection, Iterable

from server.concurrency.lru_cache import LruCache
from server.models import Member
from server.storage.mongo.rooms import MemberStore


class Memberships:
    """Keeps the users that were used last. A membership that was noted is in every later answer for its user, and one
    that was forgotten in none; also while the store does not know of it.
    """

    def __init__(self, members: MemberStore, *, max_cached: int) -> None:
        self._members = members
        self._known: LruCache[str, dict[str, Member]] = LruCache(max_cached)
        self._reading: dict[str, asyncio.Task[dict[str, Member]]] = {}
        # What happened during a read: None for a membership that ended.
        self._noted: dict[str, dict[str, Member | None]] = {}
        # What a read does not find in the store yet, in the same form.
        self._unsaved: dict[str, dict[str, Member | None]] = {}

    async def of_user(self, user_id: str) -> list[Member]:
        """The user's memberships, with marks that may be old. Raises `Unavailable`."""
        known = self._known.get(user_id)
        if known is not None:
            return list(known.values())
        reading = self._reading.get(user_id)
        if reading is None:
            # One read per user at a time: of two, the earlier would lose rooms that were noted since.
            reading = self._reading[user_id] = asyncio.ensure_future(self._read(user_id))
        return list((await asyncio.shield(reading)).values())

    def note_change(self, room_id: str, joined: Iterable[Member], left: Iterable[str]) -> None:
        """People have come and gone, which is not stored before `note_saved`."""
        joined, left = list(joined), list(left)
        self.note(joined)
        self._forget(room_id, left)
        for member in joined:
            self._unsaved.setdefault(member.user_id, {})[room_id] = member
        for user_id in left:
            self._unsaved.setdefault(user_id, {})[room_id] = None

    def note_saved(self, joined: Iterable[Member], left: Iterable[Member]) -> None:
        """What `note_change` was told is stored, unless there is something later of the same member."""
        for member in joined:
            unsaved = self._unsaved.get(member.user_id, {}).get(member.room_id)
            if unsaved is not None and unsaved.changed_seq <= member.changed_seq:
                self._drop_unsaved(member.user_id, member.room_id)
        for member in left:
            if self._unsaved.get(member.user_id, {}).get(member.room_id) is None:
                self._drop_unsaved(member.user_id, member.room_id)

    def note(self, members: Iterable[Member]) -> None:
        """Add memberships that are stored."""
        for member in members:
            known, noted = self._known.get(member.user_id), self._noted.get(member.user_id)
            if known is not None:
                known[member.room_id] = member
            if noted is not None:
                noted[member.room_id] = member

    def forget(self, room_id: str, user_ids: Collection[str]) -> None:
        """Remove the memberships of a room that is no more."""
        self._forget(room_id, user_ids)
        for user_id in user_ids:
            self._drop_unsaved(user_id, room_id)

    def _forget(self, room_id: str, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            known, noted = self._known.get(user_id), self._noted.get(user_id)
            if known is not None:
                known.pop(room_id, None)
            if noted is not None:
                noted[room_id] = None

    def _drop_unsaved(self, user_id: str, room_id: str) -> None:
        unsaved = self._unsaved.get(user_id)
        if unsaved is not None:
            unsaved.pop(room_id, None)
            if not unsaved:
                del self._unsaved[user_id]

    async def _read(self, user_id: str) -> dict[str, Member]:
        # A room that the user joins or leaves during the read may be missing from the result, or in it.
        noted = dict(self._unsaved.get(user_id, {}))
        self._noted[user_id] = noted
        try:
            members = await self._members.of_user(user_id)
        finally:
            del self._noted[user_id], self._reading[user_id]
        latest = {member.room_id: member for member in members} | noted
        known = {room_id: member for room_id, member in latest.items() if member is not None}
        self._known.put(user_id, known)
        return known
