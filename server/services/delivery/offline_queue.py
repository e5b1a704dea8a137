"""Offline queue: messages for offline users, flushed at each connect until the client confirms them."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from server.concurrency.tasks import Tasks
from server.errors import Unavailable, Unusable
from server.events import MESSAGES_OFFLINE
from server.failpoints import BEFORE_TRIM, Failpoints
from server.realtime.connection import Connection
from server.realtime.frames import event_frame
from server.realtime.hub import Hub
from server.room_state import RoomState
from server.services.delivery.entries import (
    Queued,
    WaitingEntry,
    in_parts,
    in_room_order,
    read_head,
)
from server.services.delivery.lost_queues import LostQueues
from server.services.delivery.offline_queue_writer import OfflineQueueWriter
from server.services.delivery.ports import Receipts, Rooms
from server.services.delivery.references import References
from server.storage.redis.offline_queues import Entry, OfflineQueues, Place

log = logging.getLogger(__name__)

# Entries per read of the queue: about 1,500 references.
SLICE_BYTES: Final = 128 * 1024


class _Part:
    """One flushed event until it is confirmed: the names of its entries, and the last message of each room."""

    __slots__ = ("last", "names")

    def __init__(self, names: list[bytes], last: list[Queued]) -> None:
        self.names = names
        self.last = last


class OfflineQueue:
    """An entry is removed once the client acknowledges its event or answers a later ping.

    Entries are references; the messages are read from the log as they are flushed. Older versions stored short messages
    in the entry, and these are flushed as they are.
    History and `sync` have every message, so a lost queue loses none.
    """

    def __init__(
        self,
        queues: OfflineQueues,
        offline_writer: OfflineQueueWriter,
        lost_queues: LostQueues,
        rooms: Rooms,
        references: References,
        receipts: Receipts,
        hub: Hub,
        failpoints: Failpoints,
        *,
        retention: float,
    ) -> None:
        self._queues = queues
        self._offline_writer = offline_writer
        self._lost_queues = lost_queues
        self._rooms = rooms
        self._references = references
        self._receipts = receipts
        self._hub = hub
        self._failpoints = failpoints
        self.set_retention(retention)
        self._tasks = Tasks()
        self._postponed: list[Connection] = []
        # Connections that are being flushed, and whether another flush was requested meanwhile.
        self._flushing: dict[Connection, bool] = {}

    def flush_to(self, user_ids: Iterable[str]) -> None:
        """Flush the open connections of users whose queues were written after their connect."""
        for user_id in user_ids:
            for connection in self._hub.connections_of(user_id):
                self._tasks.run(self.flush(connection))

    async def flush(self, connection: Connection) -> None:
        """Send queued messages that the connection did not get yet. Postponed if a store is unavailable.

        Messages go out in parts, as fast as the connection takes them.
        """
        if connection in self._flushing:
            self._flushing[connection] = True
            return
        self._flushing[connection] = True
        try:
            while self._flushing[connection] and connection.is_open:
                self._flushing[connection] = False
                await self._flush_all(connection)
        except Unusable:
            # The messages are in history and `sync`; a retry would not help.
            pass
        except Unavailable:
            self._postponed.append(connection)
        finally:
            del self._flushing[connection]

    async def _flush_all(self, connection: Connection) -> None:
        user_id = connection.user_id
        # Messages that were sent just before the connect come in the same event as the rest.
        await self._offline_writer.wait_written()
        place: Place | None = None
        is_last = False
        while not is_last:
            await connection.wait_sent()
            epoch, entries, end, is_last = await self._queues.read(
                user_id, since=_milliseconds() - self._retention, most_bytes=SLICE_BYTES, after=place
            )
            if not self._lost_queues.is_current(epoch):
                await self._lost_queues.refill_if_lost()
                self._flushing[connection] = True
                return
            intact = await self._quarantine_damaged(user_id, entries)
            # Recovery after a crash and refills can change the order of entries.
            ordered = in_room_order(intact)
            removed: set[bytes] = set()
            for group in in_parts(ordered):
                removed.update(await self._flush_group(connection, group))
                if not connection.is_open:
                    return
            kept = next((item.entry.name for item in reversed(intact) if item.entry.name not in removed), None)
            if kept is not None:
                place = Place(kept, end)

    async def _flush_group(self, connection: Connection, group: Sequence[WaitingEntry]) -> list[bytes]:
        """Send new messages and remove obsolete entries. Returns the names of the removed entries."""
        waiting, obsolete, rooms = await self._classify(connection, group)
        found = await self._references.resolve(connection.user_id, rooms, waiting)
        obsolete += [item.entry.name for item in waiting if item.head.place not in found]
        if obsolete:
            await self._queues.remove(connection.user_id, obsolete)
        for part in in_parts([found[item.head.place] for item in waiting if item.head.place in found]):
            await connection.wait_sent()
            if connection.is_open:
                self._send(connection, part)
        return obsolete

    def _send(self, connection: Connection, waiting: Sequence[WaitingEntry]) -> None:
        last = {item.head.room_id: item.head for item in waiting}
        part = _Part([item.entry.name for item in waiting], list(last.values()))
        connection.flushed.update((item.head.place, item.entry.name) for item in waiting)

        def confirm() -> None:
            self._tasks.run(self._remove_confirmed(connection, part))

        ack_id = connection.request_ack(confirm)
        connection.when_confirmed(confirm)
        connection.send(event_frame(MESSAGES_OFFLINE, [msgspec.Raw(item.entry.payload) for item in waiting], ack_id))

    def set_retention(self, seconds: float) -> None:
        """From now on entries live for so long."""
        self._retention = round(seconds * 1000)

    async def sweep(self) -> int:
        """Drop entries older than the retention. Returns their number. Raises `Unavailable`."""
        expired = await self._queues.expire(_milliseconds() - self._retention)
        if expired.damaged:
            log.error("damaged offline queue entries quarantined count=%d", expired.damaged)
        return expired.dropped

    async def retry_postponed(self) -> None:
        """Flush postponed connections if Redis is available."""
        postponed = [connection for connection in self._postponed if connection.is_open]
        if not self._queues.is_available:
            # Closed connections are dropped, so that they do not pile up while Redis is unavailable.
            self._postponed = postponed
            return
        self._postponed = []
        for connection in postponed:
            self._tasks.run(self.flush(connection))

    async def _classify(
        self, connection: Connection, intact: Sequence[WaitingEntry]
    ) -> tuple[list[WaitingEntry], list[bytes], Mapping[str, RoomState]]:
        """Split into entries to send, and names of entries to remove because they are read or duplicates.

        Returns the rooms too. Entries that were sent on this connection before are in neither.
        """
        user_id = connection.user_id
        waiting: list[WaitingEntry] = []
        obsolete: list[bytes] = []
        seen: set[tuple[str, int]] = set()
        rooms = await self._rooms.access_many(user_id, {head.room_id for _, head in intact})
        for entry, head in intact:
            room = rooms.get(head.room_id)
            flushed = connection.flushed.get(head.place, entry.name)
            is_obsolete = room is None or not room.is_waiting_for(user_id, head.seq)
            if is_obsolete or head.place in seen or flushed != entry.name:
                obsolete.append(entry.name)
            elif head.place not in connection.flushed:
                waiting.append(WaitingEntry(entry, head))
            seen.add(head.place)
        return waiting, obsolete, rooms

    async def _quarantine_damaged(self, user_id: str, entries: Sequence[Entry]) -> list[WaitingEntry]:
        """Returns the intact entries. A damaged one would make its client disconnect at every connect."""
        intact: list[WaitingEntry] = []
        damaged: list[Entry] = []
        for entry in entries:
            head = read_head(entry.payload)
            if head is None:
                damaged.append(entry)
            else:
                intact.append(WaitingEntry(entry, head))
        if damaged:
            await self._queues.set_aside(user_id, damaged)
            log.error("damaged offline queue entries quarantined user=%s count=%d", user_id, len(damaged))
        return intact

    async def _remove_confirmed(self, connection: Connection, part: _Part) -> None:
        names, part.names = part.names, []
        if not names:
            # Confirmed twice: by the ack and by the pong.
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
