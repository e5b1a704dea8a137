"""Rooms: one per pair and booking, the one gate to them, and the cache that every other service reads."""

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from server.errors import NotFound, ValidationFailed
from server.models import Member, Message, Room, User, derive_room_id, members_of, now
from server.protocol import RoomRequest
from server.room_state import RoomState
from server.storage.messages import MessageStore
from server.storage.rooms import MemberStore, RoomStore

T = TypeVar("T")

# About two kilobytes each; the working set of a small team's server, and all of it for most.
MAX_CACHED_ROOMS: Final = 20_000
MAX_CACHED_PEOPLE: Final = 20_000
# Rooms that are loaded, or saved without a pause, by one call each: far below the time that a call may take.
MAX_TOGETHER: Final = 250
# Writing ends and marks delays messages: 1.5 ms for each room on the embedded store.
SAVED_TOGETHER: Final = 5
# The share of the time that saving may take; the rest is left to messages.
SAVING_SHARE: Final = 0.1


class People(Protocol):
    async def get(self, user_id: str) -> User: ...


class Limits(Protocol):
    async def check_new_room(self, user_id: str) -> None: ...


class Rooms:
    """Loads, makes and guards rooms. Everything it hands out is the one object of that room in this process."""

    def __init__(
        self,
        rooms: RoomStore,
        members: MemberStore,
        messages: MessageStore,
        people: People,
        limits: Limits,
        room_key: Callable[[], bytes],
    ) -> None:
        self._rooms = rooms
        self._members = members
        self._messages = messages
        self._people = people
        self._limits = limits
        self._room_key = room_key
        self._cache: OrderedDict[str, RoomState] = OrderedDict()
        self._loading: dict[str, asyncio.Future[RoomState | None]] = {}
        self._peers: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._arrivals: dict[str, dict[str, str]] = {}

    async def open(self, user_id: str, request: RoomRequest) -> tuple[RoomState, bool]:
        """The room of this pair and booking, made if need be; says whether it is new.

        Raises `ValidationFailed` for oneself, `NotFound` for an unknown or inactive person, and `RateLimited` where the
        user has made too many new ones.
        """
        other_id = request.other_user_id
        if other_id == user_id:
            raise ValidationFailed.at("otherUserId", "must be somebody else")
        await self._people.get(other_id)
        pair = user_id, other_id, request.booking_id
        room = Room(
            id=derive_room_id(*pair, self._room_key()),
            user_ids=(user_id, other_id),
            booking_id=request.booking_id,
            created_at=now(),
        )
        state, is_new = await self._find_either(room.id, derive_room_id(*pair)), False
        if state is None:
            await self._limits.check_new_room(user_id)
            is_new = await self._rooms.create(room)
            # The first may join a load of somebody else's that began before the room was there.
            state = await self._load(room.id) or await self._load(room.id)
        if state is None:
            raise NotFound
        self._note_peers(state.id, user_id, other_id)
        return state, is_new

    def cached(self, room_id: str) -> RoomState | None:
        """The room if it is in memory and read to its end: the way for what must not wait."""
        state = self._cache.get(room_id)
        if state is None or not state.is_checked:
            return None
        self._cache.move_to_end(room_id)
        return state

    def access_cached(self, user_id: str, room_id: str) -> RoomState | None:
        """As `access_room` without waiting; None where it would have to wait. Raises `NotFound`."""
        state = self.cached(room_id)
        if state is not None and user_id not in state.members:
            raise NotFound("No such room")
        return state

    async def access_room(self, user_id: str, room_id: str) -> RoomState:
        """The room, for one of its members. Raises `NotFound` to everybody else, as for one that does not exist."""
        state = self.cached(room_id) or await self._load(room_id)
        if state is None or user_id not in state.members:
            raise NotFound("No such room")
        return state

    async def access_many(self, user_id: str, room_ids: Collection[str]) -> dict[str, RoomState]:
        """Those of these rooms that the user is in, by their ids. Their ends are as last stored."""
        wanted = set(room_ids)
        for room_id in wanted & self._cache.keys():
            # Must not make room for those that are missing.
            self._cache.move_to_end(room_id)
        for batch in _in_groups(sorted(wanted - self._cache.keys()), MAX_TOGETHER):
            await self._load_many(batch, spare=wanted)
        found = ((room_id, self._cache.get(room_id)) for room_id in wanted)
        return {room_id: state for room_id, state in found if state is not None and user_id in state.members}

    async def of_user(self, user_id: str) -> list[RoomState]:
        """All rooms of a user, in no order. Their ends are as last stored, not read from the log anew."""
        room_ids = await self._peers_by_room(user_id)
        for room_id in room_ids:
            if room_id in self._cache:
                # Must not make room for those that are missing.
                self._cache.move_to_end(room_id)
        missing = [room_id for room_id in room_ids if room_id not in self._cache]
        if missing:
            await self._load_many(missing, spare=room_ids)
        return [self._cache[room_id] for room_id in room_ids if room_id in self._cache]

    async def _find_either(self, room_id: str, older_id: str) -> RoomState | None:
        """The room of a pair, which may be from before ids had a key; not a question more than for one id."""
        if room_id not in self._cache and older_id not in self._cache:
            await self._load_many((room_id, older_id))
        found = next((one for one in (room_id, older_id) if one in self._cache), None)
        return None if found is None else self.cached(found) or await self._load(found)

    async def peers(self, user_id: str) -> set[str]:
        """Everybody who shares a room with the user."""
        return set((await self._peers_by_room(user_id)).values())

    async def read_tail(self, state: RoomState) -> list[Message]:
        """Take in what the log holds beyond the end that is known here, and say what that was."""
        found = []
        for message in await self._messages.read_tail(state.id, state.last_seq):
            if message.seq == state.last_seq + 1:
                state.append(message)
                found.append(message)
        state.is_checked = True
        return found

    async def hold_many(self, room_ids: Sequence[str]) -> list[RoomState]:
        """Those of these rooms that exist, with one hold on each, and not yet read beyond their stored ends."""
        held = []
        for batch in _in_groups(room_ids, MAX_TOGETHER):
            await self._load_many(batch)
            for state in (self._cache[room_id] for room_id in batch if room_id in self._cache):
                state.holds += 1
                held.append(state)
        return held

    async def save_changed(self) -> None:
        """Store the derived ends and marks of all rooms that changed, few at a time and with pauses.

        A room's end is stored only once everything up to it is delivered: what lies beyond is mended after a crash.
        Raises `Unavailable`.
        """
        loop = asyncio.get_running_loop()
        for states in _in_groups(self._changed(), SAVED_TOGETHER):
            begun = loop.time()
            await self._save([state for state in states if state.is_changed])
            await asyncio.sleep((loop.time() - begun) * (1 / SAVING_SHARE - 1))

    async def save_all(self) -> None:
        """As `save_changed`, at once: nobody is waiting for anything else. Raises `Unavailable`."""
        for states in _in_groups(self._changed(), MAX_TOGETHER):
            await self._save(states)

    def _changed(self) -> list[RoomState]:
        return [state for state in self._cache.values() if state.is_changed]

    async def _save(self, changed: Sequence[RoomState]) -> None:
        ends = [state.settled_end for state in changed if state.settled_end is not None]
        marks = [member for state in changed for member in state.take_changes()]
        try:
            # Marks first: a crash in between leaves an old end, and reading the log from there repeats the marks.
            await self._members.save_marks(marks)
            await self._rooms.save_ends(ends)
        except BaseException:
            for state in changed:
                state.keep_changes()
            raise

    async def _peers_by_room(self, user_id: str) -> dict[str, str]:
        known = self._peers.get(user_id)
        if known is None:
            # A room that is made while the members are read may be missing from what is read.
            arrivals = self._arrivals.setdefault(user_id, {})
            members = await self._members.of_user(user_id)
            known = {member.room_id: member.peer_id for member in members if member.peer_id is not None} | arrivals
            self._arrivals.pop(user_id, None)
            # Who asked at the same time and had an answer first has kept it up to date since.
            known = self._peers.setdefault(user_id, known)
            while len(self._peers) > MAX_CACHED_PEOPLE:
                self._peers.popitem(last=False)
        else:
            self._peers.move_to_end(user_id)
        return dict(known)

    def _note_peers(self, room_id: str, user_id: str, other_id: str) -> None:
        for person, peer in (user_id, other_id), (other_id, user_id):
            for known in self._peers.get(person), self._arrivals.get(person):
                if known is not None:
                    known[room_id] = peer

    async def _load(self, room_id: str) -> RoomState | None:
        """The room read to the end of its log; None where it does not exist. Concurrent loads share one."""
        loading = self._loading.get(room_id)
        if loading is None:
            loading = asyncio.ensure_future(self._load_one(room_id))
            self._loading[room_id] = loading
            loading.add_done_callback(lambda _done: self._loading.pop(room_id, None))
        return await asyncio.shield(loading)

    async def _load_one(self, room_id: str) -> RoomState | None:
        if room_id not in self._cache:
            await self._load_many([room_id])
        state = self._cache.get(room_id)
        if state is not None and not state.is_checked:
            await self.read_tail(state)
            if state.holds == 0 and state.last_message is not None:
                # Nothing of ours is on its way: what was found has been delivered by whoever stored it.
                state.settle(state.last_message)
        return state

    async def _load_many(self, room_ids: Collection[str], *, spare: Collection[str] = ()) -> None:
        """Load these rooms into the cache. They and `spare` are not evicted before the next await of the caller."""
        rooms, members = await asyncio.gather(self._rooms.find_many(room_ids), self._members.of_rooms(room_ids))
        by_room: dict[str, list[Member]] = {}
        for member in members:
            by_room.setdefault(member.room_id, []).append(member)
        for room in rooms:
            present = by_room.get(room.id, [])
            if len(present) < len(room.user_ids):
                # New, or its maker died between the room and its members.
                present = members_of(room)
                await self._members.create(present)
            if room.id not in self._cache:
                self._cache[room.id] = RoomState(room, present)
        self._evict({*room_ids, *spare})

    def _evict(self, spare: Collection[str]) -> None:
        excess = len(self._cache) - MAX_CACHED_ROOMS
        if excess <= 0:
            return
        idle = (
            room_id
            for room_id, state in self._cache.items()
            if not state.is_changed and state.holds == 0 and room_id not in spare
        )
        for room_id in list(itertools.islice(idle, excess)):
            del self._cache[room_id]


def _in_groups(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
