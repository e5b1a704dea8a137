"""Rooms, one per pair and booking: creation, loading, saving, and the membership check for all other services."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec

from server.concurrency.batcher import in_groups
from server.errors import NotFound, ValidationFailed
from server.models import Member, Message, Room
from server.requests import RoomRequest
from server.room_state import Bounds, RoomState
from server.services.rooms.direct import build_direct_room
from server.services.rooms.memberships import Memberships
from server.services.rooms.ports import Attachments, Limits, People
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
# Rooms saved in one call without pauses: far below the timeout of a call.
SAVE_ALL_BATCH: Final = 250
# Messages wait while ends and marks are written: 1.5 ms for each room on the embedded store.
SAVE_BATCH: Final = 5
# The share of the time that saving may take; the rest is left to messages.
SAVING_SHARE: Final = 0.1


class Rooms:
    """Creates, loads and guards rooms. Returns the only object of a room in this process.

    `on_loaded` gets each room that was read to the end of its log.
    """

    def __init__(
        self,
        rooms: RoomStore,
        members: MemberStore,
        messages: MessageStore,
        changes: ChangeStore,
        mentions: MentionStore,
        attachments: Attachments,
        people: People,
        limits: Limits,
        memberships: Memberships,
        *,
        max_cached: int,
        bounds: Bounds,
        room_key: Callable[[], bytes],
        on_loaded: Callable[[RoomState], None],
    ) -> None:
        self._rooms = rooms
        self._members = members
        self._messages = messages
        self._changes = changes
        self._mentions = mentions
        self._attachments = attachments
        self._people = people
        self._limits = limits
        self._bounds = bounds
        self._room_key = room_key
        self._on_loaded = on_loaded
        self._memberships = memberships
        self._cache = RoomCache(max_cached)
        self._loading: dict[str, asyncio.Task[Mapping[str, RoomState]]] = {}
        self._saving = asyncio.Lock()

    async def open(self, user_id: str, request: RoomRequest) -> tuple[RoomState, bool]:
        """The room of this pair and booking, created if needed; and whether it is new.

        Raises `ValidationFailed` for a room with oneself, `NotFound` if the other user is unknown or inactive or the
        user was removed from the room, and `RateLimited` if the user has created too many rooms.
        """
        other_id = request.other_user_id
        if other_id == user_id:
            raise ValidationFailed.at("otherUserId", "must be somebody else")
        await self._people.get(other_id)
        room, members, older_id = build_direct_room(user_id, other_id, request.booking_id, self._room_key())
        state, is_new = await self._find_either(room.id, older_id), False
        if state is None:
            await self._limits.check_new_room(user_id)
            state, is_new = await self.create(room, members)
        if user_id not in state.members:
            raise NotFound("No such room")
        return state, is_new

    async def create(self, room: Room, members: Sequence[Member]) -> tuple[RoomState, bool]:
        """Store a room; and whether it is new. Raises `Unavailable`."""
        # Members first: a room that is there has its members. Those without a room, after a crash, are ignored.
        await self._members.create(members)
        is_new = await self._rooms.create(room)
        # The first may join a load by another caller that began before the room was stored.
        state = await self._load(room.id) or await self._load(room.id)
        if state is None:
            raise NotFound("No such room")
        return state, is_new

    async def forget_members(self, room_id: str) -> None:
        """Remove the members of a room that was never stored. Raises `Unavailable`."""
        await self._members.remove_all(room_id)

    async def find(self, room_id: str) -> RoomState | None:
        """The room, whoever asks. Callers check what the user may know of it."""
        return self.cached(room_id) or await self._load(room_id)

    async def end(self, state: RoomState) -> None:
        """Delete a room for everybody. Returns once it is gone for good; what it held is removed by `purge`."""
        # First, so that nothing more is stored in it.
        state.is_ended = True
        try:
            await self._rooms.end(state.id, state.details.image)
        except BaseException:
            state.is_ended = False
            raise
        state.is_changed = False
        self._cache.remove(state.id)
        self._memberships.forget(state.id, state.members)

    async def purge_ended(self) -> None:
        """Remove messages and members of deleted rooms, a part at a time. Raises `Unavailable`."""
        for room_id, image in (await self._rooms.find_ended()).items():
            if image is not None:
                await self._attachments.release(image, room_id)
            while some := await self._messages.find_some(room_id):
                for message in some:
                    if message.attachment_url is not None:
                        await self._attachments.release(message.attachment_url, message.id)
                removed = [message.id for message in some]
                await self._changes.remove(removed)
                await self._mentions.remove(removed)
                await self._messages.remove(removed)
            await self._members.remove_all(room_id)
            await self._rooms.forget_ended(room_id)

    def cached(self, room_id: str) -> RoomState | None:
        """The room if it is in memory and read to the end of its log; for callers that must not wait."""
        state = self._cache.find(room_id)
        return state if state is not None and state.is_checked else None

    def access_cached(self, user_id: str, room_id: str) -> RoomState | None:
        """As `access_room` without waiting; None if it would have to wait. Raises `NotFound`."""
        state = self.cached(room_id)
        if state is not None and user_id not in state.members:
            raise NotFound("No such room")
        return state

    async def access_room(self, user_id: str, room_id: str) -> RoomState:
        """The room, for one of its members. Raises `NotFound` for other users, as for a room that does not exist."""
        state = self.cached(room_id) or await self._load(room_id)
        if state is None or user_id not in state.members:
            raise NotFound("No such room")
        return state

    async def access_many(self, user_id: str, room_ids: Collection[str]) -> dict[str, RoomState]:
        """Those of these rooms that the user is in, by their ids."""
        found = await self._load_all(set(room_ids))
        return {room_id: state for room_id, state in found.items() if user_id in state.members}

    async def of_user(self, user_id: str) -> list[RoomState]:
        """All rooms of a user, in no order, each read to the end of its log."""
        memberships = await self._memberships.of_user(user_id)
        return list((await self.access_many(user_id, [member.room_id for member in memberships])).values())

    async def _find_either(self, room_id: str, older_id: str) -> RoomState | None:
        """The room of a pair, which has the older id if it is from before ids had a key. One query for both ids."""
        state = self.cached(room_id) or self.cached(older_id)
        if state is not None:
            return state
        found = await self._load_some((room_id, older_id))
        return found.get(room_id) or found.get(older_id)

    async def peers(self, user_id: str) -> set[str]:
        """The users who share a room with this user, of those that tell presence."""
        found: set[str] = set()
        groups: list[str] = []
        for member in await self._memberships.of_user(user_id):
            if member.peer_id is not None:
                found.add(member.peer_id)
            else:
                groups.append(member.room_id)
        for room in (await self.access_many(user_id, groups)).values() if groups else ():
            if room.tells_presence:
                found.update(room.members)
        found.discard(user_id)
        return found

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

    async def load_many(self, room_ids: Sequence[str]) -> list[RoomState]:
        """Those of these rooms that exist, each read to the end of its log."""
        return list((await self._load_all(room_ids)).values())

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

    async def _load(self, room_id: str) -> RoomState | None:
        """The room read to the end of its log; None if it does not exist."""
        return (await self._load_some([room_id])).get(room_id)

    async def _load_all(self, room_ids: Collection[str]) -> dict[str, RoomState]:
        """Those of these rooms that exist, each read to the end of its log."""
        found: dict[str, RoomState] = {}
        for batch in in_groups(list(room_ids), LOAD_BATCH):
            found.update(await self._load_some(batch))
        return found

    async def _load_some(self, room_ids: Sequence[str]) -> dict[str, RoomState]:
        """As `_load_all`. Concurrent loads of a room share one task, so that none returns older data than another."""
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
            states.append(RoomState(recent, by_room.get(room.id, []), self._bounds, self._note_members))
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
