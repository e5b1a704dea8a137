"""`sync`: what a returning client has missed in all its rooms, by the numbers of what it has."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from server.concurrency.batcher import in_groups
from server.errors import FieldError, NotFound, ValidationFailed
from server.protocol import SyncAnswer, SyncedRoom
from server.requests import SyncPoint, SyncRequest
from server.room_state import RoomState
from server.services.rooms.log_reading import FIRST_READ, Budget, LogReader
from server.services.rooms.ports import Limits
from server.services.rooms.rooms import Rooms
from server.storage.mongo.changes import ChangeStore
from server.storage.mongo.identity import IdentityStore
from server.storage.mongo.messages import MessageStore

SYNC_PER_ROOM: Final = 200
SYNC_TOTAL: Final = 2_000
# An answer over a socket is one frame, and clients refuse frames above their limit (python-socketio: 4 MiB).
SYNC_BYTES: Final = 2 * 1024 * 1024
# Reserved for messages, however many rooms there are: with 20,000 rooms a frame is still below 4 MiB.
SYNC_MIN_BYTES: Final = 512 * 1024
# Ranges that one sync reads concurrently: enough to hide the latency of the store, few enough to share it.
SYNC_PARALLEL: Final = 8
# Messages in the first read of a range if several are read concurrently.
FIRST_READ_AMONG_OTHERS: Final = 50
ROOMS_PER_YIELD: Final = 500
# Rooms named in one error: a few are enough to correct a client.
NAMED_ROOMS: Final = 100


class Sync:
    """Two numbers for each room, of messages and of changes, bring a client to what everybody else sees."""

    def __init__(
        self,
        rooms: Rooms,
        log: LogReader,
        store: MessageStore,
        changes: ChangeStore,
        identities: IdentityStore,
        limits: Limits,
    ) -> None:
        self._rooms = rooms
        self._log = log
        self._store = store
        self._changes = changes
        self._identities = identities
        self._limits = limits

    async def catch_up(self, user_id: str, request: SyncRequest) -> SyncAnswer:
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
        async with self._log.slot(user_id):
            synced = await self._read(user_id, list(rooms.values()), ranges)
        # Who came or left meanwhile may have heard so before this answer.
        mine = {room.id: room for room in await self._rooms.of_user(user_id)}
        answer = [room for room in synced if mine.pop(room.room_id, None) is not None]
        answer += [self._view_synced(user_id, room, [], [], has_all=True) for room in mine.values()]
        return SyncAnswer(answer, epoch, reset=is_reset or msgspec.UNSET)

    async def _read(self, user_id: str, rooms: Sequence[RoomState], ranges: Mapping[str, "_Range"]) -> list[SyncedRoom]:
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
            messages = await self._log.read(user_id, room, known.seq + 1, known.upto, budget, first_read=first_read)
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
        views = await self._log.encode(user_id, room, [found[change.message_id] for change in noted], budget)
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
