"""The offline queue: what came while a user had no socket, sent at each connect until its receipt is proven."""

import itertools
import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from server.batching import in_groups
from server.errors import Unavailable, Unusable
from server.faults import BEFORE_TRIM, CrashPoints
from server.frames import Frame, event_frame
from server.models import Message, User
from server.protocol import MESSAGES_OFFLINE
from server.room_state import RoomState
from server.storage.offline_queues import Entry, OfflineQueues, Place
from server.tasks import Tasks
from server.views import name_of, view_message

log = logging.getLogger(__name__)

# Clients refuse frames above a size of their own (python-socketio's 4 MiB) and would do so at every connect anew. It is
# also what one connection can make the server hold for it.
PART_BYTES: Final = 1024 * 1024
# Entries without a body, which are read from the log together: as many as take about one piece when they are long.
BODIES_AT_ONCE: Final = 25


class Connection(Protocol):
    """The socket that the queue is handed to. `handed` holds the messages it was given, and by which entries."""

    handed: dict[tuple[str, int], bytes]

    @property
    def user_id(self) -> str: ...

    @property
    def is_open(self) -> bool: ...

    def send(self, frame: Frame) -> None: ...

    async def wait_sent(self) -> None: ...

    def request_ack(self, on_ack: Any) -> int: ...

    def when_proven(self, on_proof: Any) -> None: ...


class Rooms(Protocol):
    async def access_many(self, user_id: str, room_ids: Collection[str]) -> Mapping[str, RoomState]: ...


class Messages(Protocol):
    """The log."""

    async def read_range(self, room_id: str, after: int, upto: int) -> Sequence[Message]: ...


class People(Protocol):
    async def get_many(self, user_ids: Collection[str]) -> Mapping[str, User]: ...


class Receipts(Protocol):
    async def mark_all_delivered(self, user_id: str, last: "Collection[Queued]", *, skip: Any = None) -> None: ...


class Sockets(Protocol):
    def connections_of(self, user_id: str) -> Sequence[Any]: ...


class Pushes(Protocol):
    async def wait_written(self) -> None: ...


class Queued(msgspec.Struct, rename="camel"):
    """The part of an entry that says which message it is. One without an id only refers to the log."""

    room_id: str
    seq: int
    message_id: str = ""

    @property
    def place(self) -> tuple[str, int]:
        return self.room_id, self.seq


class _Waiting(NamedTuple):
    entry: Entry
    head: Queued

    @property
    def is_reference(self) -> bool:
        return not self.head.message_id


class _Part:
    """What one event handed over, until it is proven: the names of its entries, and the last message of each room."""

    __slots__ = ("last", "names")

    def __init__(self, names: list[bytes], last: list[Queued]) -> None:
        self.names = names
        self.last = last


class OfflineQueue:
    """An entry leaves the queue when the client acknowledges its batch, or when the connection proves alive after it.

    Nothing is lost with the queue: history and `sync` hold every message.
    """

    def __init__(
        self,
        queues: OfflineQueues,
        pushes: Pushes,
        rooms: Rooms,
        messages: Messages,
        people: People,
        receipts: Receipts,
        sockets: Sockets,
        crash: CrashPoints,
        *,
        retention: float,
    ) -> None:
        self._queues = queues
        self._pushes = pushes
        self._rooms = rooms
        self._messages = messages
        self._people = people
        self._receipts = receipts
        self._sockets = sockets
        self._crash = crash
        self._retention = round(retention * 1000)
        self._tasks = Tasks()
        self._postponed: list[Connection] = []
        # Who is being given their queue, and whether it has grown since it was read.
        self._under_way: dict[Connection, bool] = {}

    def hand_over_to(self, user_ids: Iterable[str]) -> None:
        """Their queues have grown: whoever connected in the meantime has read theirs too early."""
        for user_id in user_ids:
            for connection in self._sockets.connections_of(user_id):
                self._tasks.run(self.hand_over(connection))

    async def hand_over(self, connection: Connection) -> None:
        """Give a connection what waits for its user and what it was not given before; while a store is away, later.

        What is more than one part goes out part by part, as fast as the connection takes them.
        """
        if connection in self._under_way:
            self._under_way[connection] = True
            return
        self._under_way[connection] = True
        try:
            while self._under_way[connection] and connection.is_open:
                self._under_way[connection] = False
                await self._hand_over_all(connection)
        except Unusable:
            # What waits there is in history and `sync`; to try again would not help.
            pass
        except Unavailable:
            self._postponed.append(connection)
        finally:
            del self._under_way[connection]

    async def _hand_over_all(self, connection: Connection) -> None:
        user_id = connection.user_id
        # What was acknowledged just before the connect comes with the rest, in one piece.
        await self._pushes.wait_written()
        place: Place | None = None
        is_last = False
        while not is_last:
            await connection.wait_sent()
            entries, end, is_last = await self._queues.read(
                user_id, since=_milliseconds() - self._retention, most_bytes=PART_BYTES, after=place
            )
            whole = await self._set_damaged_aside(user_id, entries)
            # A queue keeps no order that a crash, or a Redis that began anew, could not have changed.
            ordered = _in_room_order(whole)
            at_once = BODIES_AT_ONCE if any(item.is_reference for item in whole) else max(1, len(whole))
            gone: set[bytes] = set()
            for some in in_groups(ordered, at_once):
                gone.update(await self._hand_over_some(connection, some))
                if not connection.is_open:
                    return
            kept = next((item.entry.name for item in reversed(whole) if item.entry.name not in gone), None)
            if kept is not None:
                place = Place(kept, end)

    async def _hand_over_some(self, connection: Connection, some: Sequence[_Waiting]) -> list[bytes]:
        """Send what of these is to be handed over, and take off the queue what is not: the names of that."""
        waiting, done = await self._sort_out(connection, some)
        found = await self._with_bodies(waiting)
        done += [item.entry.name for item in waiting if item.head.place not in found]
        if done:
            await self._queues.remove(connection.user_id, done)
        for part in _in_parts([found[item.head.place] for item in waiting if item.head.place in found]):
            await connection.wait_sent()
            if connection.is_open:
                self._send(connection, part)
        return done

    def _send(self, connection: Connection, waiting: Sequence[_Waiting]) -> None:
        last = {item.head.room_id: item.head for item in waiting}
        part = _Part([item.entry.name for item in waiting], list(last.values()))
        connection.handed.update((item.head.place, item.entry.name) for item in waiting)

        def take_proof() -> None:
            self._tasks.run(self._acknowledged(connection, part))

        ack_id = connection.request_ack(take_proof)
        connection.when_proven(take_proof)
        connection.send(event_frame(MESSAGES_OFFLINE, [msgspec.Raw(item.entry.payload) for item in waiting], ack_id))

    async def sweep(self) -> int:
        """Drop entries that are past their time; says how many. Raises `Unavailable`."""
        expired = await self._queues.expire(_milliseconds() - self._retention)
        if expired.damaged:
            log.error("%d damaged entries of offline queues were set aside", expired.damaged)
        return expired.dropped

    async def retry_postponed(self) -> None:
        """Hand over what could not be while a store was away."""
        postponed = [connection for connection in self._postponed if connection.is_open]
        if not self._queues.is_available:
            # Those that have left are not kept for as long as Redis is away.
            self._postponed = postponed
            return
        self._postponed = []
        for connection in postponed:
            self._tasks.run(self.hand_over(connection))

    async def _sort_out(self, connection: Connection, whole: Sequence[_Waiting]) -> tuple[list[_Waiting], list[bytes]]:
        """Split into what is to be handed over, and the names of entries that are read or repeated.

        What was handed over before is neither.
        """
        user_id = connection.user_id
        waiting: list[_Waiting] = []
        done: list[bytes] = []
        seen: set[tuple[str, int]] = set()
        rooms = await self._rooms.access_many(user_id, {head.room_id for _, head in whole})
        for entry, head in whole:
            room = rooms.get(head.room_id)
            handed = connection.handed.get(head.place, entry.name)
            is_over = room is None or head.seq <= room.members[user_id].read
            if is_over or head.place in seen or handed != entry.name:
                done.append(entry.name)
            elif head.place not in connection.handed:
                waiting.append(_Waiting(entry, head))
            seen.add(head.place)
        return waiting, done

    async def _with_bodies(self, waiting: Sequence[_Waiting]) -> dict[tuple[str, int], _Waiting]:
        """All of these by their places, with what references refer to, as far as the log has it."""
        found = {item.head.place: item for item in waiting if not item.is_reference}
        by_room: dict[str, dict[int, Entry]] = {}
        for item in waiting:
            if item.is_reference:
                by_room.setdefault(item.head.room_id, {})[item.head.seq] = item.entry
        for room_id, entries in by_room.items():
            for first, last in _runs(entries):
                messages = await self._messages.read_range(room_id, first - 1, last)
                senders = await self._people.get_many({message.sender_id for message in messages})
                for message in messages:
                    view = view_message(message, name_of(senders.get(message.sender_id)), is_read=False)
                    body = msgspec.json.encode(view)
                    head = Queued(room_id, message.seq, message.id)
                    found[head.place] = _Waiting(Entry(entries[message.seq].name, body), head)
        return found

    async def _set_damaged_aside(self, user_id: str, entries: Sequence[Entry]) -> list[_Waiting]:
        """What can be handed over. The rest would end the connection of whoever is given it, at every connect."""
        whole: list[_Waiting] = []
        damaged: list[Entry] = []
        for entry in entries:
            head = _read_head(entry.payload)
            if head is None:
                damaged.append(entry)
            else:
                whole.append(_Waiting(entry, head))
        if damaged:
            await self._queues.set_aside(user_id, damaged)
            log.error(
                "%d damaged entries of the offline queue of %s were set aside; the log has the messages",
                len(damaged),
                user_id,
            )
        return whole

    async def _acknowledged(self, connection: Connection, part: _Part) -> None:
        names, part.names = part.names, []
        if not names:
            # Acknowledged before the ping that proves it too.
            return
        self._crash.reach(BEFORE_TRIM)
        try:
            await self._queues.remove(connection.user_id, names)
        except Unavailable:
            part.names = names
            raise
        await self._receipts.mark_all_delivered(connection.user_id, part.last, skip=connection)


def _read_head(payload: bytes) -> Queued | None:
    """None where it is damaged: clients get a payload as it is, and break off at text that is no UTF-8."""
    try:
        payload.decode()
        return msgspec.json.decode(payload, type=Queued)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _in_parts(waiting: Sequence[_Waiting]) -> Iterator[list[_Waiting]]:
    """Each takes `PART_BYTES` at most, or is one message."""
    part: list[_Waiting] = []
    size = 0
    for item in waiting:
        size += len(item.entry.payload)
        if part and size > PART_BYTES:
            yield part
            part, size = [], len(item.entry.payload)
        part.append(item)
    if part:
        yield part


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each row of numbers without a gap."""
    ascending = sorted(numbers)
    first = ascending[0]
    for number, after in itertools.pairwise([*ascending, ascending[-1] + 2]):
        if after != number + 1:
            yield first, number
            first = after


def _in_room_order(waiting: Sequence[_Waiting]) -> list[_Waiting]:
    """Keep the places that each room has in the batch, and fill them in the room's order."""
    by_room: dict[str, list[_Waiting]] = {}
    for item in waiting:
        by_room.setdefault(item.head.room_id, []).append(item)
    ordered = {room_id: iter(sorted(items, key=lambda item: item.head.seq)) for room_id, items in by_room.items()}
    return [next(ordered[item.head.room_id]) for item in waiting]


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
