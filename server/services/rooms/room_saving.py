"""Saves the ends, cursors, members and marks of rooms, which lag behind their logs until then."""

import asyncio
from collections.abc import Sequence
from typing import Final

from server.concurrency.batcher import in_groups
from server.room_state import RoomState
from server.services.rooms.memberships import Memberships
from server.services.rooms.room_cache import RoomCache
from server.storage.mongo.rooms import MemberStore, RoomStore

# Rooms saved in one call without pauses: far below the timeout of a call.
SAVE_ALL_BATCH: Final = 250
# Messages wait while ends and marks are written: 1.5 ms for each room on the embedded store.
SAVE_BATCH: Final = 5
# The share of the time that saving may take; the rest is left to messages.
SAVING_SHARE: Final = 0.1


class RoomSaver:
    """One save at a time, so that what a later one stores is never older."""

    def __init__(self, rooms: RoomStore, members: MemberStore, cache: RoomCache, memberships: Memberships) -> None:
        self._rooms = rooms
        self._members = members
        self._cache = cache
        self._memberships = memberships
        self._saving = asyncio.Lock()

    async def save_changed(self) -> None:
        """Store the ends, cursors and marks of all changed rooms, in small batches with pauses.

        After a crash, the consumers of the log see what is beyond their stored cursors again.
        Raises `Unavailable`.
        """
        loop = asyncio.get_running_loop()
        for states in in_groups(self._cache.changed(), SAVE_BATCH):
            begun = loop.time()
            async with self._saving:
                await self._save([state for state in states if state.is_changed])
            await asyncio.sleep((loop.time() - begun) * (1 / SAVING_SHARE - 1))

    async def save_room(self, state: RoomState) -> None:
        """Store the changes of one room, for callers who promise them. Raises `Unavailable`."""
        async with self._saving:
            if state.is_changed:
                await self._save([state])

    async def save_all(self) -> None:
        """As `save_changed`, without pauses: for when no messages wait. Raises `Unavailable`."""
        # What another call is storing counts as unchanged already.
        async with self._saving:
            for states in in_groups(self._cache.changed(), SAVE_ALL_BATCH):
                await self._save(states)

    async def _save(self, changed: Sequence[RoomState]) -> None:
        changes = [state.take_changes() for state in changed]
        try:
            # The ends last: a crash in between leaves old ones, and following the log from there repeats the rest.
            joined = [member for one in changes for member in one.joined]
            left = [member for one in changes for member in one.left]
            await self._members.save_memberships(joined, left)
            self._memberships.note_saved(joined, left)
            await self._members.save_marks([member for one in changes for member in one.marks])
            await self._rooms.save_ends([one.end for one in changes])
        except BaseException:
            for state, one in zip(changed, changes, strict=True):
                state.keep_changes(one)
            raise
