"""The offline queue: what came while a user had no socket, sent at each connect until its receipt is proven."""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from server.concurrency.batcher import in_groups
from server.concurrency.tasks import Tasks
from server.errors import Unavailable, Unusable
from server.failpoints import BEFORE_TRIM, Failpoints
from server.protocol import MESSAGES_OFFLINE
from server.realtime.connection import Connection
from server.realtime.frames import event_frame
from server.realtime.hub import Hub
from server.services.delivery.entries import (
    PART_BYTES,
    Queued,
    WaitingEntry,
    consecutive_runs,
    in_parts,
    in_room_order,
    read_head,
)
from server.services.delivery.offline_queue_writer import OfflineQueueWriter
from server.services.delivery.ports import People, Receipts, Rooms
from server.storage.mongo.messages import MessageStore
from server.storage.redis.offline_queues import Entry, OfflineQueues, Place
from server.views import name_of, view_message

log = logging.getLogger(__name__)

# Entries without a body, which are read from the log together: as many as take about one piece when they are long.
BODIES_AT_ONCE: Final = 25


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
        offline_writer: OfflineQueueWriter,
        rooms: Rooms,
        messages: MessageStore,
        people: People,
        receipts: Receipts,
        sockets: Hub,
        failpoints: Failpoints,
        *,
        retention: float,
    ) -> None:
        self._queues = queues
        self._offline_writer = offline_writer
        self._rooms = rooms
        self._messages = messages
        self._people = people
        self._receipts = receipts
        self._sockets = sockets
        self._failpoints = failpoints
        self._retention = round(retention * 1000)
        self._tasks = Tasks()
        self._postponed: list[Connection] = []
        # Who is being given their queue, and whether it has grown since it was read.
        self._under_way: dict[Connection, bool] = {}

    def flush_to(self, user_ids: Iterable[str]) -> None:
        """Their queues have grown: whoever connected in the meantime has read theirs too early."""
        for user_id in user_ids:
            for connection in self._sockets.connections_of(user_id):
                self._tasks.run(self.flush(connection))

    async def flush(self, connection: Connection) -> None:
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
                await self._flush_all(connection)
        except Unusable:
            # What waits there is in history and `sync`; to try again would not help.
            pass
        except Unavailable:
            self._postponed.append(connection)
        finally:
            del self._under_way[connection]

    async def _flush_all(self, connection: Connection) -> None:
        user_id = connection.user_id
        # What was acknowledged just before the connect comes with the rest, in one piece.
        await self._offline_writer.wait_written()
        place: Place | None = None
        is_last = False
        while not is_last:
            await connection.wait_sent()
            entries, end, is_last = await self._queues.read(
                user_id, since=_milliseconds() - self._retention, most_bytes=PART_BYTES, after=place
            )
            whole = await self._set_damaged_aside(user_id, entries)
            # A queue keeps no order that a crash, or a Redis that began anew, could not have changed.
            ordered = in_room_order(whole)
            at_once = BODIES_AT_ONCE if any(item.is_reference for item in whole) else max(1, len(whole))
            gone: set[bytes] = set()
            for some in in_groups(ordered, at_once):
                gone.update(await self._flush_some(connection, some))
                if not connection.is_open:
                    return
            kept = next((item.entry.name for item in reversed(whole) if item.entry.name not in gone), None)
            if kept is not None:
                place = Place(kept, end)

    async def _flush_some(self, connection: Connection, some: Sequence[WaitingEntry]) -> list[bytes]:
        """Send what of these is to be handed over, and take off the queue what is not: the names of that."""
        waiting, done = await self._sort_out(connection, some)
        found = await self._with_bodies(waiting)
        done += [item.entry.name for item in waiting if item.head.place not in found]
        if done:
            await self._queues.remove(connection.user_id, done)
        for part in in_parts([found[item.head.place] for item in waiting if item.head.place in found]):
            await connection.wait_sent()
            if connection.is_open:
                self._send(connection, part)
        return done

    def _send(self, connection: Connection, waiting: Sequence[WaitingEntry]) -> None:
        last = {item.head.room_id: item.head for item in waiting}
        part = _Part([item.entry.name for item in waiting], list(last.values()))
        connection.handed.update((item.head.place, item.entry.name) for item in waiting)

        def confirm() -> None:
            self._tasks.run(self._acknowledged(connection, part))

        ack_id = connection.request_ack(confirm)
        connection.when_confirmed(confirm)
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
            self._tasks.run(self.flush(connection))

    async def _sort_out(
        self, connection: Connection, whole: Sequence[WaitingEntry]
    ) -> tuple[list[WaitingEntry], list[bytes]]:
        """Split into what is to be handed over, and the names of entries that are read or repeated.

        What was handed over before is neither.
        """
        user_id = connection.user_id
        waiting: list[WaitingEntry] = []
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
                waiting.append(WaitingEntry(entry, head))
            seen.add(head.place)
        return waiting, done

    async def _with_bodies(self, waiting: Sequence[WaitingEntry]) -> dict[tuple[str, int], WaitingEntry]:
        """All of these by their places, with what references refer to, as far as the log has it."""
        found = {item.head.place: item for item in waiting if not item.is_reference}
        by_room: dict[str, dict[int, Entry]] = {}
        for item in waiting:
            if item.is_reference:
                by_room.setdefault(item.head.room_id, {})[item.head.seq] = item.entry
        for room_id, entries in by_room.items():
            for first, last in consecutive_runs(entries):
                messages = await self._messages.read_range(room_id, first - 1, last)
                senders = await self._people.get_many({message.sender_id for message in messages})
                for message in messages:
                    view = view_message(message, name_of(senders.get(message.sender_id)), is_read=False)
                    body = msgspec.json.encode(view)
                    head = Queued(room_id, message.seq, message.id)
                    found[head.place] = WaitingEntry(Entry(entries[message.seq].name, body), head)
        return found

    async def _set_damaged_aside(self, user_id: str, entries: Sequence[Entry]) -> list[WaitingEntry]:
        """What can be handed over. The rest would end the connection of whoever is given it, at every connect."""
        whole: list[WaitingEntry] = []
        damaged: list[Entry] = []
        for entry in entries:
            head = read_head(entry.payload)
            if head is None:
                damaged.append(entry)
            else:
                whole.append(WaitingEntry(entry, head))
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
        self._failpoints.reach(BEFORE_TRIM)
        try:
            await self._queues.remove(connection.user_id, names)
        except Unavailable:
            part.names = names
            raise
        await self._receipts.mark_all_delivered(connection.user_id, part.last, skip=connection)


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
