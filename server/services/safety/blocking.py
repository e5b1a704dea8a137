"""Blocking: people who do not want to hear from somebody any more."""

from datetime import timedelta
from typing import Any, Final

from server.blocks import BlockIndex
from server.concurrency.keyed_locks import KeyedLocks
from server.errors import Conflict, ValidationFailed
from server.events import USER_BLOCKED, BlockChanged
from server.models import now
from server.protocol import BlockedPeople
from server.realtime.fan_out import FanOut
from server.services.safety.ports import People, Presence
from server.storage.mongo.blocks import BlockStore

MAX_BLOCKED: Final = 10_000
# Clocks of servers differ, and a write takes a moment from its time stamp to the store.
OVERLAP: Final = timedelta(seconds=60)


class Blocking:
    """Stores blocks and keeps `index`, which everybody asks. Changes of one user wait for each other."""

    def __init__(
        self, store: BlockStore, index: BlockIndex, people: People, presence: Presence, fan_out: FanOut
    ) -> None:
        self._store = store
        self._index = index
        self._people = people
        self._presence = presence
        self._fan_out = fan_out
        self._locks = KeyedLocks()
        self._read_until = now()

    async def open(self) -> None:
        """Read all blocks. Raises `Unavailable`."""
        self._read_until = now()
        for block in await self._store.find_on():
            self._index.add(block.blocker_id, block.blocked_id)

    async def follow(self) -> None:
        """Read what other servers have changed since the last time. Raises `Unavailable`."""
        moment = now()
        for block in await self._store.find_changed(self._read_until - OVERLAP):
            if block.is_on:
                self._index.add(block.blocker_id, block.blocked_id)
            else:
                self._index.discard(block.blocker_id, block.blocked_id)
        self._read_until = moment

    async def block(self, user_id: str, other_id: str, skip: Any = None) -> None:
        """From when this returns, nothing new of the one reaches the other. Repeated, it changes nothing.

        Raises `ValidationFailed` for oneself, `NotFound` for an unknown or inactive user, and `Conflict` for too many.
        """
        if other_id == user_id:
            raise ValidationFailed.at("userId", "must be somebody else")
        await self._people.get(other_id)
        async with self._locks.of(user_id):
            if self._index.has_blocked(user_id, other_id):
                return
            if len(self._index.blocked_by(user_id)) >= MAX_BLOCKED:
                raise Conflict(f"A user can block at most {MAX_BLOCKED} people")
            await self._store.put(user_id, other_id, is_on=True)
            were_apart = self._index.are_apart(user_id, other_id)
            if not were_apart:
                await self._presence.separate(user_id, other_id)
            self._index.add(user_id, other_id)
            self._fan_out.emit((user_id,), USER_BLOCKED, BlockChanged(other_id, is_blocked=True), skip=skip)

    async def unblock(self, user_id: str, other_id: str, skip: Any = None) -> None:
        """Lift a block, if there is one."""
        async with self._locks.of(user_id):
            if not self._index.has_blocked(user_id, other_id):
                return
            await self._store.put(user_id, other_id, is_on=False)
            self._index.discard(user_id, other_id)
            if not self._index.are_apart(user_id, other_id):
                await self._presence.unite(user_id, other_id)
            self._fan_out.emit((user_id,), USER_BLOCKED, BlockChanged(other_id, is_blocked=False), skip=skip)

    async def forget(self, user_id: str) -> None:
        """Lift all blocks of a user whose account goes. Raises `Unavailable`."""
        for other_id in list(self._index.blocked_by(user_id)):
            await self.unblock(user_id, other_id)

    async def list_blocked(self, user_id: str) -> BlockedPeople:
        """The people whom the user has blocked, by name; also those who are no longer active."""
        found = await self._people.get_many(self._index.blocked_by(user_id))
        people = sorted(found.values(), key=lambda user: (user.full_name, user.id))
        return BlockedPeople(await self._people.views(people, user_id), len(people))
