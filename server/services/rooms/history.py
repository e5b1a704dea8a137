"""Reads history: pages of a room, and `sync` for returning clients. Every answer is bounded in bytes."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from server.concurrency.batcher import in_groups
from server.concurrency.fair_queue import FairQueue
from server.errors import FieldError, NotFound, ValidationFailed
from server.protocol import HistoryPage, HistoryQuery, Pagination, SyncAnswer, SyncedRoom, SyncRequest
from server.room_state import RoomState
from server.services.rooms.ports import Limits, People
from server.services.rooms.rooms import Rooms
from server.storage.mongo.identity import IdentityStore
from server.storage.mongo.messages import MessageStore
from server.views import name_of, view_message

SYNC_PER_ROOM: Final = 200
SYNC_TOTAL: Final = 2_000
# An answer over a socket is one frame, and clients refuse frames above their limit (python-socketio: 4 MiB).
SYNC_BYTES: Final = 2 * 1024 * 1024
# A page of the usual 50 messages stays below it, even if each has 10,000 characters of four bytes.
PAGE_BYTES: Final = 2 * 1024 * 1024
# Messages in the first read of a range, before their size is known.
FIRST_READ: Final = 100
# The same if several ranges are read concurrently.
FIRST_READ_AMONG_OTHERS: Final = 50
# Work between two yields to the event loop: about a millisecond.
BYTES_PER_YIELD: Final = 128 * 1024
ROOMS_PER_YIELD: Final = 500
# Large answers that are built at the same time, to bound their memory. The fair queue is keyed by user.
READERS: Final = 4
MAX_WAITING_PER_USER: Final = 100
MAX_WAITING: Final = 5_000
READ_SECONDS: Final = 0.02
# Reserved for messages, however many rooms there are: with 20,000 rooms a frame is still below 4 MiB.
SYNC_MIN_BYTES: Final = 512 * 1024
# Ranges that one sync reads concurrently: enough to hide the latency of the store, few enough to share it.
SYNC_PARALLEL: Final = 8
# Rooms named in one error: a few are enough to correct a client.
NAMED_ROOMS: Final = 100


class Budget:
    """Bytes that are left for messages. The first message always fits, so that every request makes progress."""

    def __init__(self, size: int) -> None:
        self.size = self.left = size

    def take(self, size: int) -> bool:
        if size > self.left and self.left < self.size:
            # A shorter message that comes later must not overtake this one.
            self.left = min(self.left, 0)
            return False
        self.left -= size
        return True

    @property
    def used(self) -> int:
        return self.size - self.left


class History:
    """Answers with bounded ranges of the log, so that a page costs the same at any depth."""

    def __init__(
        self, rooms: Rooms, people: People, store: MessageStore, identities: IdentityStore, limits: Limits
    ) -> None:
        self._rooms = rooms
        self._people = people
        self._store = store
        self._identities = identities
        self._limits = limits
        self._queue = FairQueue(
            READERS, most_per_key=MAX_WAITING_PER_USER, most_waiting=MAX_WAITING, seconds=READ_SECONDS
        )

    async def read_page(self, user_id: str, room_id: str, query: HistoryQuery) -> HistoryPage:
        """With `page` the newest message comes first; with `before` or `after` the oldest.

        Raises `ValidationFailed` if more than one of the three is given, and `NotFound` if the user is no member.
        """
        given = [name for name in ("page", "before", "after") if getattr(query, name) is not None]
        if len(given) > 1:
            raise ValidationFailed.at(given[1], f"cannot go together with {given[0]}")
        room = await self._rooms.access_room(user_id, room_id)
        # Members who may not see what was before they joined have a log that begins there.
        end, hidden, limit = room.last_seq, room.first_visible(user_id).seq, query.limit
        total = end - hidden
        if query.after is not None:
            first = max(min(query.after, end), hidden) + 1
            last = min(first + limit - 1, end)
        else:
            page = query.page or 1
            newest = end - (page - 1) * limit
            last = newest if query.before is None else min(query.before - 1, end)
            first = max(hidden + 1, last - limit + 1)
        # Read from the client's end of the range, so that messages which do not fit are on the next page.
        is_newest_first = query.after is None
        async with self._read_slot(user_id):
            budget = Budget(PAGE_BYTES)
            messages = await self._collect(user_id, room, first, last, budget, is_newest_first=is_newest_first)
            self._limits.charge_read(user_id, budget.used)
        if user_id not in room.members:
            # Removed meanwhile.
            raise NotFound("No such room")
        is_cut = len(messages) < last - first + 1
        if is_cut and is_newest_first:
            first = last - len(messages) + 1
        elif is_cut:
            last = first + len(messages) - 1
        if query.before is not None:
            messages.reverse()
        has_older = bool(messages) and first > hidden + 1
        has_newer = last < end
        return HistoryPage(
            messages=messages,
            pagination=Pagination(
                current_page=query.page or 1 + max(0, end - max(last, hidden)) // limit,
                total_pages=-(-total // limit),
                total_items=total,
                has_next=has_newer if query.after is not None else has_older,
                has_prev=first > hidden + 1 if query.after is not None else has_newer,
                next_before=first if is_cut and is_newest_first else msgspec.UNSET,
                next_after=last if is_cut and not is_newest_first else msgspec.UNSET,
            ),
        )

    async def sync(self, user_id: str, request: SyncRequest) -> SyncAnswer:
        """What the user missed: for each room named, the messages after the seq that the client has.

        Seqs of another epoch count as 0, and unknown rooms are then left out. Otherwise raises `NotFound`
        naming a room that the user is not in, and `ValidationFailed` naming rooms whose log ends before the given seq.
        """
        self._limits.check_read(user_id, 0)
        epoch = self._identities.known.epoch
        is_reset = request.epoch not in (None, epoch)
        rooms = {room.id: room for room in await self._rooms.of_user(user_id)}
        named: dict[str, int] = {}
        for room_id, have in request.rooms.items():
            if room_id in rooms:
                named[room_id] = max(0 if is_reset else have, rooms[room_id].first_visible(user_id).seq)
            elif not is_reset:
                detail = "No such room"
                raise NotFound(detail, errors=[FieldError(f"rooms.{room_id}", detail)])
        if request.epoch == epoch:
            # Older clients send no epoch. For them a seq beyond the log means that nothing is new.
            _check_within_log(named, rooms)
        ranges: dict[str, tuple[int, int]] = {}
        budget = SYNC_TOTAL
        for room_id, have in named.items():
            count = min(max(rooms[room_id].last_seq - have, 0), SYNC_PER_ROOM, budget)
            ranges[room_id] = (have, have + count)
            budget -= count
        async with self._read_slot(user_id):
            synced = await self._sync(user_id, list(rooms.values()), ranges)
        return SyncAnswer(synced, epoch, reset=is_reset)

    async def _sync(
        self, user_id: str, rooms: Sequence[RoomState], ranges: dict[str, tuple[int, int]]
    ) -> list[SyncedRoom]:
        """All rooms, with as many messages as fit in one frame beside them. Rooms that are cut have `has_more` set."""
        synced: dict[str, SyncedRoom] = {}
        size = 0
        for group in in_groups(rooms, ROOMS_PER_YIELD):
            views = {room.id: self._view_synced(user_id, room, [], ranges.get(room.id, (None,))[0]) for room in group}
            size += len(msgspec.json.encode(list(views.values())))
            synced |= views
            await asyncio.sleep(0)
        budget = Budget(max(SYNC_BYTES - size, SYNC_MIN_BYTES))

        async def read(room: RoomState) -> None:
            have, upto = ranges[room.id]
            messages = await self._collect(user_id, room, have + 1, upto, budget, first_read=first_read)
            synced[room.id] = self._view_synced(user_id, room, messages, have + len(messages))

        behind = [room for room in rooms if room.id in ranges and ranges[room.id][0] < ranges[room.id][1]]
        first_read = FIRST_READ if len(behind) == 1 else FIRST_READ_AMONG_OTHERS
        for group in in_groups(behind, SYNC_PARALLEL):
            await asyncio.gather(*map(read, group))
        self._limits.charge_read(user_id, size + budget.used)
        return [synced[room.id] for room in rooms if user_id in room.members]

    def _view_synced(self, user_id: str, room: RoomState, messages: list[msgspec.Raw], upto: int | None) -> SyncedRoom:
        """`upto` is the last seq that the client then has; None if the client did not name the room."""
        return SyncedRoom(
            room_id=room.id,
            messages=messages,
            last_seq=room.last_seq,
            unread_count=room.unread(user_id),
            has_more=upto is not None and upto < room.last_seq,
        )

    @asynccontextmanager
    async def _read_slot(self, user_id: str) -> AsyncIterator[None]:
        async with self._queue.take(user_id):
            # The user's reads before this one may have been large.
            self._limits.check_read(user_id, 0)
            yield

    async def _collect(
        self,
        user_id: str,
        room: RoomState,
        first: int,
        last: int,
        budget: Budget,
        *,
        is_newest_first: bool = False,
        first_read: int = FIRST_READ,
    ) -> list[msgspec.Raw]:
        """The messages of a range as JSON, from one end of it, until the budget is used up."""
        found: list[msgspec.Raw] = []
        size = 0
        while first <= last and budget.left > 0:
            step = first_read if not found else max(1, budget.left * len(found) // size)
            if is_newest_first:
                part = max(first, last - step + 1), last
                last = part[0] - 1
            else:
                part = first, min(last, first + step - 1)
                first = part[1] + 1
            messages = await self._store.read_range(room.id, part[0] - 1, part[1])
            if is_newest_first:
                messages.reverse()
            people = await self._people.get_many({message.sender_id for message in messages})
            unyielded = 0
            for message in messages:
                name = name_of(people.get(message.sender_id))
                encoded = msgspec.json.encode(view_message(message, name, room.is_read(message, user_id)))
                if not budget.take(len(encoded)):
                    return found
                found.append(msgspec.Raw(encoded))
                size += len(encoded)
                unyielded += len(encoded)
                if unyielded >= BYTES_PER_YIELD:
                    unyielded = 0
                    await asyncio.sleep(0)
        return found


def _check_within_log(named: Mapping[str, int], rooms: Mapping[str, RoomState]) -> None:
    """Raises `ValidationFailed` for seqs beyond the end of their log."""
    beyond = [room_id for room_id, have in named.items() if have > rooms[room_id].last_seq]
    if beyond:
        errors = [
            FieldError(f"rooms.{room_id}", f"is above the room's last message, {rooms[room_id].last_seq}")
            for room_id in beyond[:NAMED_ROOMS]
        ]
        raise ValidationFailed(f"{errors[0].path}: {errors[0].message}", errors=errors)
