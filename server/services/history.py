"""Reading back: pages of a room's history, and what a returning client has missed."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from server.errors import FieldError, NotFound, ValidationFailed
from server.models import Message, User
from server.protocol import HistoryPage, HistoryQuery, MessageView, Pagination, SyncAnswer, SyncedRoom, SyncRequest
from server.room_state import RoomState
from server.views import name_of, view_message

SYNC_PER_ROOM: Final = 200
SYNC_IN_ALL: Final = 2_000
# An answer over a socket is one frame, and clients refuse larger ones than they expect (python-socketio 4 MiB).
SYNC_BYTES: Final = 2 * 1024 * 1024
# At least this is for messages, however many rooms there are: with 20,000 a frame is still below 4 MiB.
SYNC_LEAST_BYTES: Final = 512 * 1024
# Ranges read at the same time by one sync: enough to hide the way to the store, few enough to leave it to others.
SYNC_PARALLEL: Final = 8
# So many rooms are named in an error: to correct a client a few are enough.
NAMED_ROOMS: Final = 100


class Rooms(Protocol):
    async def access_room(self, user_id: str, room_id: str) -> RoomState: ...

    async def of_user(self, user_id: str) -> list[RoomState]: ...


class People(Protocol):
    async def get_many(self, user_ids: Collection[str]) -> dict[str, User]: ...


class Store(Protocol):
    async def read_range(self, room_id: str, after: int, upto: int) -> list[Message]: ...


class Identity(Protocol):
    @property
    def epoch(self) -> str: ...


class Identities(Protocol):
    @property
    def known(self) -> Identity: ...


class History:
    """Every answer is a bounded range of a room's log, so that it costs the same at any depth."""

    def __init__(self, rooms: Rooms, people: People, store: Store, identities: Identities) -> None:
        self._rooms = rooms
        self._people = people
        self._store = store
        self._identities = identities

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
        messages = await self._read(room, first, last)
        if query.before is None and query.after is None:
            messages.reverse()
        has_older = bool(messages) and first > 1
        has_newer = last < total
        return HistoryPage(
            messages=await self._view(user_id, room, messages),
            pagination=Pagination(
                current_page=query.page or 1 + max(0, total - max(last, 0)) // limit,
                total_pages=-(-total // limit),
                total_items=total,
                has_next=has_newer if query.after is not None else has_older,
                has_prev=first > 1 if query.after is not None else has_newer,
            ),
        )

    async def sync(self, user_id: str, request: SyncRequest) -> SyncAnswer:
        """What the user missed: for each room named, the messages after the seq that the client has.

        Numbers of another epoch count as 0, and a room that is in this one no more is left out. Raises `NotFound`
        naming a room that is not the user's, and `ValidationFailed` naming rooms that do not reach so far today.
        """
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
        for room_id in named:
            rooms[room_id] = await self._rooms.access_room(user_id, room_id)
        if request.epoch == epoch:
            # Who names no epoch is a client of before, and goes on as it was: with nothing new.
            _check_reached(named, rooms)
        ranges: dict[str, tuple[int, int]] = {}
        budget = SYNC_IN_ALL
        for room_id, have in named.items():
            count = min(max(rooms[room_id].last_seq - have, 0), SYNC_PER_ROOM, budget)
            ranges[room_id] = (have, have + count)
            budget -= count
        bounded = asyncio.Semaphore(SYNC_PARALLEL)

        async def read(room: RoomState) -> SyncedRoom:
            have, upto = ranges.get(room.id, (room.last_seq, room.last_seq))
            async with bounded:
                messages = await self._read(room, have + 1, upto)
            return SyncedRoom(
                room_id=room.id,
                messages=await self._view(user_id, room, messages),
                last_seq=room.last_seq,
                unread_count=room.unread(user_id),
                has_more=upto < room.last_seq,
            )

        synced = _within_bytes(await asyncio.gather(*(read(room) for room in rooms.values())))
        return SyncAnswer(synced, epoch, reset=is_reset)

    async def _read(self, room: RoomState, first: int, last: int) -> list[Message]:
        if first > last:
            return []
        return await self._store.read_range(room.id, first - 1, last)

    async def _view(self, user_id: str, room: RoomState, messages: list[Message]) -> list[MessageView]:
        people = await self._people.get_many({message.sender_id for message in messages})
        return [
            view_message(message, name_of(people.get(message.sender_id)), room.is_read(message, user_id))
            for message in messages
        ]


def _check_reached(named: Mapping[str, int], rooms: Mapping[str, RoomState]) -> None:
    """Raises `ValidationFailed` for numbers that nobody can have been given."""
    beyond = [room_id for room_id, have in named.items() if have > rooms[room_id].last_seq]
    if beyond:
        errors = [
            FieldError(f"rooms.{room_id}", f"is above the room's last message, {rooms[room_id].last_seq}")
            for room_id in beyond[:NAMED_ROOMS]
        ]
        raise ValidationFailed(f"{errors[0].path}: {errors[0].message}", errors=errors)


def _within_bytes(synced: Sequence[SyncedRoom]) -> list[SyncedRoom]:
    """As many of the messages as one frame may hold beside the rooms, and one at least, so that asking again ends.

    Rooms whose messages are cut say that there is more.
    """
    bare = [msgspec.structs.replace(room, messages=[]) for room in synced]
    left = max(SYNC_BYTES - len(msgspec.json.encode(bare)), SYNC_LEAST_BYTES)
    is_first = True
    kept: list[SyncedRoom] = []
    for room in synced:
        for position, message in enumerate(room.messages):
            left -= len(msgspec.json.encode(message))
            if left < 0 and not is_first:
                room = msgspec.structs.replace(room, messages=room.messages[:position], has_more=True)
                break
            is_first = False
        kept.append(room)
    return kept
