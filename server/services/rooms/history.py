"""Reads history: pages of a room, and `sync` for returning clients. Every answer is bounded in bytes."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import msgspec

from server.concurrency.batcher import in_groups
from server.concurrency.fair_queue import FairQueue
from server.errors import FieldError, NotFound, ValidationFailed
from server.models import Message
from server.protocol import HistoryPage, Pagination, SyncAnswer, SyncedRoom
from server.requests import HistoryQuery, SyncPoint, SyncRequest
from server.room_state import RoomState
from server.services.rooms.message_access import Quotes
from server.services.rooms.ports import Limits, People
from server.services.rooms.rooms import Rooms
from server.storage.mongo.changes import ChangeStore
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
        self,
        rooms: Rooms,
        people: People,
        store: MessageStore,
        changes: ChangeStore,
        quotes: Quotes,
        identities: IdentityStore,
        limits: Limits,
    ) -> None:
        self._rooms = rooms
        self._people = people
        self._store = store
        self._changes = changes
        self._quotes = quotes
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
        """What the user missed: for each room named, the messages after the seq that the client has, and changes.

        Numbers of another epoch count as 0, and unknown rooms are then left out. Otherwise raises `NotFound`
        naming a room that the user is not in, and `ValidationFailed` naming rooms that end before the given numbers.
        """
        self._limits.check_read(user_id, 0)
        epoch = self._identities.known.epoch
        is_reset = request.epoch not in (None, epoch)
        rooms = {room.id: room for room in await self._rooms.of_user(user_id)}
        named: dict[str, _Known] = {}
        for room_id, have in request.rooms.items():
            if room_id in rooms:
                named[room_id] = _read_known(have, is_reset, rooms[room_id].first_visible(user_id).seq)
            elif not is_reset:
                detail = "No such room"
                raise NotFound(detail, errors=[FieldError(f"rooms.{room_id}", detail)])
        if request.epoch == epoch:
            # Older clients send no epoch. For them a seq beyond the log means that nothing is new.
            _check_within_log(named, rooms)
        ranges: dict[str, _Range] = {}
        budget = SYNC_TOTAL
        for room_id, known in named.items():
            count = min(max(rooms[room_id].last_seq - known.seq, 0), SYNC_PER_ROOM, budget)
            ranges[room_id] = _Range(*known, known.seq + count)
            budget -= count
        async with self._read_slot(user_id):
            synced = await self._sync(user_id, list(rooms.values()), ranges)
        return SyncAnswer(synced, epoch, reset=is_reset)

    async def _sync(self, user_id: str, rooms: Sequence[RoomState], ranges: Mapping[str, "_Range"]) -> list[SyncedRoom]:
        """All rooms, with as many messages as fit in one frame beside them. Rooms that are cut have `has_more` set."""
        synced: dict[str, SyncedRoom] = {}
        size = 0
        for group in in_groups(rooms, ROOMS_PER_YIELD):
            views = {
                room.id: self._view_synced(user_id, room, [], [], room.id not in ranges or self._has_all(room, ranges))
                for room in group
            }
            size += len(msgspec.json.encode(list(views.values())))
            synced |= views
            await asyncio.sleep(0)
        budget = Budget(max(SYNC_BYTES - size, SYNC_MIN_BYTES))

        async def read(room: RoomState) -> None:
            known = ranges[room.id]
            changed, last_rev, has_all = await self._collect_changed(user_id, room, known, budget)
            messages = await self._collect(user_id, room, known.seq + 1, known.upto, budget, first_read=first_read)
            has_all = has_all and known.seq + len(messages) >= room.last_seq
            synced[room.id] = self._view_synced(user_id, room, messages, changed, has_all, last_rev)

        behind = [room for room in rooms if room.id in ranges and not self._has_all(room, ranges)]
        first_read = FIRST_READ if len(behind) == 1 else FIRST_READ_AMONG_OTHERS
        for group in in_groups(behind, SYNC_PARALLEL):
            await asyncio.gather(*map(read, group))
        self._limits.charge_read(user_id, size + budget.used)
        return [synced[room.id] for room in rooms if user_id in room.members]

    def _has_all(self, room: RoomState, ranges: Mapping[str, "_Range"]) -> bool:
        """Whether the client has everything, or does not ask for it."""
        known = ranges[room.id]
        return known.seq >= room.last_seq and (known.rev is None or known.rev >= room.last_rev)

    async def _collect_changed(
        self, user_id: str, room: RoomState, known: "_Range", budget: Budget
    ) -> tuple[list[msgspec.Raw], int, bool]:
        """Messages that the client has, as they are since their last change; up to which change; whether these are all.

        A change that is noted but not stored yet counts too: its message is as before, and comes again with the change.
        """
        # Read first: a change that comes meanwhile is above it.
        last_rev = room.last_rev
        if known.rev is None or known.rev >= last_rev:
            return [], last_rev, True
        hidden = room.first_visible(user_id).seq
        noted = await self._changes.find_since(room.id, known.rev, hidden, known.seq, SYNC_PER_ROOM)
        found = await self._store.find_many([change.message_id for change in noted])
        noted = [change for change in noted if change.message_id in found]
        views = await self._encode(user_id, room, [found[change.message_id] for change in noted], budget)
        if len(views) == len(noted) < SYNC_PER_ROOM:
            return views, last_rev, True
        return views, min(noted[len(views) - 1].rev, last_rev) if views else known.rev, False

    def _view_synced(
        self,
        user_id: str,
        room: RoomState,
        messages: list[msgspec.Raw],
        changed: list[msgspec.Raw],
        has_all: bool,
        last_rev: int | None = None,
    ) -> SyncedRoom:
        return SyncedRoom(
            room_id=room.id,
            messages=messages,
            changed=changed,
            last_seq=room.last_seq,
            last_rev=room.last_rev if last_rev is None else last_rev,
            unread_count=room.unread(user_id),
            has_more=not has_all,
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
            encoded = await self._encode(user_id, room, messages, budget)
            found += encoded
            size += sum(map(len, map(bytes, encoded)))
            if len(encoded) < len(messages):
                break
        return found

    async def _encode(
        self, user_id: str, room: RoomState, messages: Sequence[Message], budget: Budget
    ) -> list[msgspec.Raw]:
        """The first of these messages as JSON, until the budget is used up."""
        people = await self._people.get_many({message.sender_id for message in messages})
        quotes = await self._quotes.find(messages)
        if user_id not in room.members:
            # Removed meanwhile.
            raise NotFound("No such room")
        encoded: list[msgspec.Raw] = []
        unyielded = 0
        for message in messages:
            name = name_of(people.get(message.sender_id))
            quote = room.show_quote(user_id, quotes.get(message.reply_to or ""))
            view = msgspec.json.encode(view_message(message, name, room.is_read(message, user_id), user_id, quote))
            if not budget.take(len(view)):
                break
            encoded.append(msgspec.Raw(view))
            unyielded += len(view)
            if unyielded >= BYTES_PER_YIELD:
                unyielded = 0
                await asyncio.sleep(0)
        return encoded


class _Known(NamedTuple):
    """What a client has of a room: the messages up to `seq`, and the changes up to `rev`; None if it asks for none."""

    seq: int
    rev: int | None


class _Range(NamedTuple):
    """As `_Known`, and the `seq` up to which further messages are read."""

    seq: int
    rev: int | None
    upto: int


def _read_known(have: int | SyncPoint, is_reset: bool, hidden: int) -> _Known:
    seq, rev = (have.seq, have.rev) if isinstance(have, SyncPoint) else (have, None)
    if is_reset:
        seq, rev = 0, None if rev is None else 0
    return _Known(max(seq, hidden), rev)


def _check_within_log(named: Mapping[str, _Known], rooms: Mapping[str, RoomState]) -> None:
    """Raises `ValidationFailed` for numbers beyond the end of their log, or its last change."""
    errors = []
    for room_id, known in named.items():
        room = rooms[room_id]
        if known.seq > room.last_seq:
            errors.append(FieldError(f"rooms.{room_id}", f"is above the room's last message, {room.last_seq}"))
        elif known.rev is not None and known.rev > room.last_rev:
            errors.append(FieldError(f"rooms.{room_id}.rev", f"is above the room's last change, {room.last_rev}"))
    if errors:
        raise ValidationFailed(f"{errors[0].path}: {errors[0].message}", errors=errors[:NAMED_ROOMS])
