"""Loads rooms: from memory, or from the store and then to the ends of their logs."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec

from server.blocks import BlockIndex
from server.concurrency.batcher import in_groups
from server.models import Member, Message, Room
from server.room_state import Bounds, RoomState
from server.services.rooms.memberships import Memberships
from server.services.rooms.room_cache import RoomCache
from server.storage.mongo.changes import ChangeStore
from server.storage.mongo.mentions import MentionStore
from server.storage.mongo.messages import MessageStore
from server.storage.mongo.rooms import MemberStore, RoomStore

# What a crash left unsaved is the changes of one second.
CHANGES_PER_READ: Final = 500
MAX_SEQ: Final = 2**53
# A caller that needs one room of a batch waits for the whole batch: 60 ms on the embedded store.
LOAD_BATCH: Final = 100


class RoomLoader:
    """Returns the only object of a room in this process. `on_loaded` gets each that was read to the end of its log."""

    def __init__(
        self,
        rooms: RoomStore,
        members: MemberStore,
        messages: MessageStore,
        changes: ChangeStore,
        mentions: MentionStore,
        cache: RoomCache,
        memberships: Memberships,
        *,
        bounds: Bounds,
        blocks: BlockIndex,
        on_loaded: Callable[[RoomState], None],
    ) -> None:
        self._rooms = rooms
        self._members = members
        self._messages = messages
        self._changes = changes
        self._mentions = mentions
        self._cache = cache
        self._memberships = memberships
        self._bounds = bounds
        self._blocks = blocks
        self._on_loaded = on_loaded
        self._loading: dict[str, asyncio.Task[Mapping[str, RoomState]]] = {}

    @property
    def cached_rooms(self) -> int:
        """The number of rooms in memory."""
        return len(self._cache)

    def cached(self, room_id: str) -> RoomState | None:
        """The room if it is in memory and read to the end of its log; for callers that must not wait."""
        state = self._cache.find(room_id)
        return state if state is not None and state.is_checked else None

    async def load(self, room_id: str) -> RoomState | None:
        """The room read to the end of its log; None if it does not exist."""
        return (await self.load_some([room_id])).get(room_id)

    async def load_all(self, room_ids: Collection[str]) -> dict[str, RoomState]:
        """Those of these rooms that exist, each read to the end of its log."""
        found: dict[str, RoomState] = {}
        for batch in in_groups(list(room_ids), LOAD_BATCH):
            found.update(await self.load_some(batch))
        return found

    async def load_many(self, room_ids: Sequence[str]) -> list[RoomState]:
        """Those of these rooms that exist, each read to the end of its log."""
        return list((await self.load_all(room_ids)).values())

    async def load_some(self, room_ids: Sequence[str]) -> dict[str, RoomState]:
        """As `load_all`. Concurrent loads of a room share one task, so that none returns older data than another."""
        found: dict[str, RoomState] = {}
        missing: list[str] = []
        loads: set[asyncio.Task[Mapping[str, RoomState]]] = set()
        for room_id in room_ids:
            state = self.cached(room_id)
            if state is not None:
                found[room_id] = state
            elif room_id in self._loading:
                loads.add(self._loading[room_id])
            else:
                missing.append(room_id)
        if missing:
            loading = asyncio.ensure_future(self._load_anew(missing))
            self._loading.update(dict.fromkeys(missing, loading))
            loads.add(loading)
        # Other callers wait for them too.
        for loaded in await asyncio.gather(*map(asyncio.shield, loads)):
            found.update((room_id, loaded[room_id]) for room_id in room_ids if room_id in loaded)
        return found

    async def pin_many(self, room_ids: Sequence[str]) -> list[RoomState]:
        """Those of these rooms that exist, each pinned once, and not yet read beyond their stored ends."""
        pinned: list[RoomState] = []
        for batch in in_groups(room_ids, LOAD_BATCH):
            states = [self._cache.find(state.id) or state for state in await self._fetch(batch)]
            for state in states:
                state.pins += 1
            self._cache.put(states)
            pinned += states
        return pinned

    async def find_ids(self, after: str, limit: int) -> list[str]:
        """The next ids of all rooms, in ascending order. An empty `after` begins."""
        return await self._rooms.find_ids(after, limit)

    async def read_tail(self, state: RoomState) -> list[Message]:
        """Append and return the messages that the log holds beyond the end known here."""
        found = []
        tail = await self._messages.read_tail(state.id, state.last_seq)
        await self._load_former(state, tail)
        # A crash may have come between a message and what follows from it.
        await self._mentions.put([message for message in tail if message.mentions_anybody])
        for message in tail:
            if message.seq == state.last_seq + 1:
                state.append(message)
                found.append(message)
        state.is_checked = True
        return found

    async def note_former(self, state: RoomState, user_ids: Collection[str]) -> None:
        """Read what is stored of those of these users who were in the room, before they come back."""
        for member in await self._members.find_former(state.id, user_ids):
            state.former[member.user_id] = member

    async def _load_former(self, state: RoomState, messages: Sequence[Message]) -> None:
        notices = [message.notice for message in messages if message.notice is not None]
        coming = {user_id for notice in notices if notice.kind in ("JOINED", "ADDED") for user_id in notice.user_ids}
        if coming:
            await self.note_former(state, coming)

    async def _load_anew(self, room_ids: Sequence[str]) -> Mapping[str, RoomState]:
        """Load rooms that are not in memory. Read these and the unchecked ones in memory to the ends of their logs."""
        try:
            unchecked = [state for state in map(self._cache.find, room_ids) if state is not None]
            known = {state.id for state in unchecked}
            new = await self._fetch([room_id for room_id in room_ids if room_id not in known])
            longer = await self._messages.find_longer({state.id: state.last_seq for state in (*new, *unchecked)})
            for state in (*new, *unchecked):
                if state.id in longer:
                    await self.read_tail(state)
                else:
                    state.is_checked = True
                self._on_loaded(state)
            self._cache.put(new)
            return {state.id: state for state in (*new, *unchecked)}
        finally:
            for room_id in room_ids:
                del self._loading[room_id]

    async def _fetch(self, room_ids: Sequence[str]) -> list[RoomState]:
        """Those of these rooms that exist, as stored: their ends may lag behind their logs."""
        rooms, members = await asyncio.gather(self._rooms.find_many(room_ids), self._members.of_rooms(room_ids))
        by_room: dict[str, list[Member]] = {}
        for member in members:
            by_room.setdefault(member.room_id, []).append(member)
        states = []
        for room in rooms:
            self._memberships.note(by_room.get(room.id, ()))
            recent = await self._follow_changes(room) if room.end_rev < room.last_rev else room
            of_room = by_room.get(room.id, [])
            states.append(RoomState(recent, of_room, self._bounds, self._note_members, self._blocks))
        return states

    async def _follow_changes(self, room: Room) -> Room:
        """The room with what follows from changes that were not saved with its end before a crash."""
        last = room.last_message
        after = room.end_rev
        while noted := await self._changes.find_since(room.id, after, 0, MAX_SEQ, CHANGES_PER_READ):
            changed = await self._messages.find_many([change.message_id for change in noted])
            await self._mentions.put(list(changed.values()))
            last = last if last is None else changed.get(last.id, last)
            after = noted[-1].rev
        return msgspec.structs.replace(room, last_message=last)

    def _note_members(self, state: RoomState, joined: Collection[str], left: Collection[str]) -> None:
        members = (state.members[user_id].to_member(state.id) for user_id in joined)
        self._memberships.note_change(state.id, members, left)
