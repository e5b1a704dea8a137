"""Reading back: pages of a room's history, and what a returning client has missed; each bounded in bytes."""

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
SYNC_IN_ALL: Final = 2_000
# An answer over a socket is one frame, and clients refuse larger ones than they expect (python-socketio 4 MiB).
SYNC_BYTES: Final = 2 * 1024 * 1024
# A page of the usual 50 messages is below it even where each has 10,000 characters of four bytes.
PAGE_BYTES: Final = 2 * 1024 * 1024
# Messages that are read of a range before it is known how long they are.
FIRST_READ: Final = 100
# The same where ranges are read beside each other.
FIRST_READ_AMONG_OTHERS: Final = 50
# Encoded in one turn of the event loop: about a millisecond's work.
BYTES_PER_TURN: Final = 128 * 1024
ROOMS_PER_TURN: Final = 500
# Large answers that are made at the same time, which bounds the memory that they take; users take turns.
READERS: Final = 4
MOST_PER_USER: Final = 100
MOST_WAITING: Final = 5_000
READ_SECONDS: Final = 0.02
# At least this is for messages, however many rooms there are: with 20,000 a frame is still below 4 MiB.
SYNC_LEAST_BYTES: Final = 512 * 1024
# Ranges read at the same time by one sync: enough to hide the way to the store, few enough to leave it to others.
SYNC_PARALLEL: Final = 8
# So many rooms are named in an error: to correct a client a few are enough.
NAMED_ROOMS: Final = 100


class Budget:
    """Bytes that are left for messages. The first message passes however long it is, so that asking again ends."""

    def __init__(self, size: int) -> None:
        self.size = self.left = size

    def take(self, size: int) -> bool:
        if size > self.left and self.left < self.size:
            # Nothing shorter that comes later may pass it by.
            self.left = min(self.left, 0)
            return False
        self.left -= size
        return True

    @property
    def used(self) -> int:
        return self.size - self.left


class History:
    """Every answer is a bounded range of a room's log, so that it costs the same at any depth."""

    def __init__(
        self, rooms: Rooms, people: People, store: MessageStore, identities: IdentityStore, limits: Limits
    ) -> None:
        self._rooms = rooms
        self._people = people
        self._store = store
        self._identities = identities
        self._limits = limits
        self._turns = FairQueue(READERS, most_per_key=MOST_PER_USER, most_waiting=MOST_WAITING, seconds=READ_SECONDS)

    async def read_page(self, user_id: str, room_id: str, query: HistoryQuery) -> HistoryPage:
        """By `page` the newest message comes first; by `before` and by `after` the oldest.

        Raises `ValidationFailed` where more than one of the three is given, and `NotFound` for a room of others.
        """
        given = [name for name in ("page", "before", "after") if getattr(query, name) is not None]
        if len(given) > 1:
            raise ValidationFailed.at(given[1], f"cannot go together with {given[0]}")
        room = await self._rooms.access_room(user_id, room_id)
        total, limit = room.last_seq, query.limit
        if query.after is not None:
            first = min(query.after, total) + 1
            last = min(first + limit - 1, total)
        else:
            page = query.page or 1
            newest = total - (page - 1) * limit
            last = newest if query.before is None else min(query.before - 1, total)
            first = max(1, last - limit + 1)
        # A range is read from where the asker stands, so that what does not fit is what they ask for next.
        is_newest_first = query.after is None
        async with self._turn(user_id):
            budget = Budget(PAGE_BYTES)
            messages = await self._collect(user_id, room, first, last, budget, is_newest_first=is_newest_first)
            self._limits.charge_read(user_id, budget.used)
        is_cut = len(messages) < last - first + 1
        if is_cut and is_newest_first:
            first = last - len(messages) + 1
        elif is_cut:
            last = first + len(messages) - 1
        if query.before is not None:
            messages.reverse()
        has_older = bool(messages) and first > 1
        has_newer = last < total
        return HistoryPage(
            messages=messages,
            pagination=Pagination(
                current_page=query.page or 1 + max(0, total - max(last, 0)) // limit,
                total_pages=-(-total // limit),
                total_items=total,
                has_next=has_newer if query.after is not None else has_older,
                has_prev=first > 1 if query.after is not None else has_newer,
                next_before=first if is_cut and is_newest_first else msgspec.UNSET,
                next_after=last if is_cut and not is_newest_first else msgspec.UNSET,
            ),
        )

    async def sync(self, user_id: str, request: SyncRequest) -> SyncAnswer:
        """What the user missed: for each room named, the messages after the seq that the client has.

        Numbers of another epoch count as 0, and a room that is in this one no more is left out. Raises `NotFound`
        naming a room that is not the user's, and `ValidationFailed` naming rooms that do not reach so far today.
        """
        self._limits.check_read(user_id, 0)
        epoch = self._identities.known.epoch
        is_reset = request.epoch not in (None, epoch)
        rooms = {room.id: room for room in await self._rooms.of_user(user_id)}
        named: dict[str, int] = {}
        for room_id, have in request.rooms.items():
            if room_id in rooms:
                named[room_id] = 0 if is_reset else have
            elif not is_reset:
                detail = "No such room"
                raise NotFound(detail, errors=[FieldError(f"rooms.{room_id}", detail)])
        if request.epoch == epoch:
            # Who names no epoch is a client of before, and goes on as it was: with nothing new.
            _check_reached(named, rooms)
        ranges: dict[str, tuple[int, int]] = {}
        budget = SYNC_IN_ALL
        for room_id, have in named.items():
            count = min(max(rooms[room_id].last_seq - have, 0), SYNC_PER_ROOM, budget)
            ranges[room_id] = (have, have + count)
            budget -= count
        async with self._turn(user_id):
            synced = await self._sync(user_id, list(rooms.values()), ranges)
        return SyncAnswer(synced, epoch, reset=is_reset)

    async def _sync(
        self, user_id: str, rooms: Sequence[RoomState], ranges: dict[str, tuple[int, int]]
    ) -> list[SyncedRoom]:
        """As many of the messages as one frame may hold beside the rooms. Rooms that are cut say that there is more."""
        synced: dict[str, SyncedRoom] = {}
        size = 0
        for some in in_groups(rooms, ROOMS_PER_TURN):
            views = {room.id: self._view_synced(user_id, room, [], ranges.get(room.id, (None,))[0]) for room in some}
            size += len(msgspec.json.encode(list(views.values())))
            synced |= views
            await asyncio.sleep(0)
        budget = Budget(max(SYNC_BYTES - size, SYNC_LEAST_BYTES))

        async def read(room: RoomState) -> None:
            have, upto = ranges[room.id]
            messages = await self._collect(user_id, room, have + 1, upto, budget, first_read=first_read)
            synced[room.id] = self._view_synced(user_id, room, messages, have + len(messages))

        behind = [room for room in rooms if room.id in ranges and ranges[room.id][0] < ranges[room.id][1]]
        first_read = FIRST_READ if len(behind) == 1 else FIRST_READ_AMONG_OTHERS
        for group in in_groups(behind, SYNC_PARALLEL):
            await asyncio.gather(*map(read, group))
        self._limits.charge_read(user_id, size + budget.used)
        return list(synced.values())

    def _view_synced(self, user_id: str, room: RoomState, messages: list[msgspec.Raw], upto: int | None) -> SyncedRoom:
        """`upto` is the last number that the client has then; None where it did not say what it has."""
        return SyncedRoom(
            room_id=room.id,
            messages=messages,
            last_seq=room.last_seq,
            unread_count=room.unread(user_id),
            has_more=upto is not None and upto < room.last_seq,
        )

    @asynccontextmanager
    async def _turn(self, user_id: str) -> AsyncIterator[None]:
        async with self._turns.take(user_id):
            # Those that came before this one may have been large.
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
        """The messages of a range from one end of it, as JSON, as far as the budget goes."""
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
            turn = 0
            for message in messages:
                name = name_of(people.get(message.sender_id))
                encoded = msgspec.json.encode(view_message(message, name, room.is_read(message, user_id)))
                if not budget.take(len(encoded)):
                    return found
                found.append(msgspec.Raw(encoded))
                size += len(encoded)
                turn += len(encoded)
                if turn >= BYTES_PER_TURN:
                    turn = 0
                    await asyncio.sleep(0)
        return found


def _check_reached(named: Mapping[str, int], rooms: Mapping[str, RoomState]) -> None:
    """Raises `ValidationFailed` for numbers that nobody can have been given."""
    beyond = [room_id for room_id, have in named.items() if have > rooms[room_id].last_seq]
    if beyond:
        errors = [
            FieldError(f"rooms.{room_id}", f"is above the room's last message, {rooms[room_id].last_seq}")
            for room_id in beyond[:NAMED_ROOMS]
        ]
        raise ValidationFailed(f"{errors[0].path}: {errors[0].message}", errors=errors)
