"""The room log: gives every message its place in its room and stores many rooms' messages in one write."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from server.errors import Unavailable
from server.failpoints import AFTER_INSERT, Failpoints
from server.models import Message
from server.room_state import RoomState, StoredMessage
from server.services.room_log.in_flight import InFlightRooms
from server.services.room_log.pending import PendingMessage, SendResult
from server.services.room_log.write_queue import WriteQueue
from server.storage.mongo.messages import MessageStore

log = logging.getLogger(__name__)

# Below this many a message never waits for another.
LEAST_TO_GATHER: Final = 8
LONGEST_GATHERING: Final = 0.004
# The pause before a write with an unknown outcome is looked up again, in seconds.
SETTLE_PAUSE: Final = 0.1
# A write that was given up may still arrive at a store that was halted; it does so soon after the store is back.
LATE: Final = 15.0


class RoomLog:
    """One writer task. What it acknowledges is stored; what it stored is told to `on_stored`, in the log's order.

    A room's numbers come from memory and are judged by the store's unique keys. When the outcome of a write is
    unknown, the same messages are tried again under the same ids, after a look at what is there already.
    """

    def __init__(
        self,
        write_queue: WriteQueue,
        messages: MessageStore,
        read_tail: Callable[[RoomState], Awaitable[object]],
        on_stored: Callable[[Sequence[StoredMessage]], None],
        in_flight: InFlightRooms,
        failpoints: Failpoints,
        *,
        max_batch: int,
    ) -> None:
        self._queue = write_queue
        self._messages = messages
        self._read_tail = read_tail
        self._on_stored = on_stored
        self._in_flight = in_flight
        self._failpoints = failpoints
        self._max_batch = max_batch
        self._doubtful: dict[str, PendingMessage] = {}
        self._refused: list[tuple[PendingMessage, float]] = []
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._last_size = 0
        self._last_seconds = 0.0

    def start(self) -> None:
        self._tasks = [
            self._loop.create_task(work) for work in (self._write_forever(), self._queue.refuse_late_forever())
        ]

    async def close(self) -> None:
        """Refuse what is new, store what waits, as far as the store allows, and stop."""
        await self._queue.close(SETTLE_PAUSE)
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _write_forever(self) -> None:
        while True:
            await self._queue.wait_for_some()
            await self._gather()
            batch = self._queue.take(self._max_batch)
            begun = self._loop.time()
            try:
                await self._write(batch)
            except Exception:
                log.exception("a batch of %d messages was not stored", len(batch))
                # Its beginning may be stored and handed on already.
                batch = [entry for entry in batch if self._queue.has(entry)]
                self._doubt(batch)
                for entry in batch:
                    entry.refuse()
                await asyncio.sleep(SETTLE_PAUSE)
            self._last_size, self._last_seconds = len(batch), self._loop.time() - begun
            if not self._doubtful:
                self._queue.rest()

    async def _gather(self) -> None:
        """Let more come in where far fewer wait than were written last: every write has a price of its own.

        Those who were answered last are about to send again. Two batches in turn, one on its way to the store and
        one with the senders, keep both sides busy.
        """
        if self._last_size >= LEAST_TO_GATHER and 2 * self._queue.waiting < self._last_size:
            await asyncio.sleep(min(LONGEST_GATHERING, self._last_seconds / 2))

    async def _write(self, batch: list[PendingMessage]) -> None:
        """Store all of `batch`, or fail what could not be stored in time."""
        collided: tuple[str, int] | None = None
        while batch or self._doubtful:
            try:
                batch = await self._settle(batch)
                if not batch:
                    return
                await self._in_flight.enter(entry.room for entry in batch)
                messages = self._number(batch)
                stored = await self._messages.insert(messages)
                self._failpoints.reach(AFTER_INSERT)
            except Unavailable:
                self._doubt(batch)
                await self._queue.wait_for_store(batch)
                # A store that answers and cannot confirm is not asked without a pause.
                await asyncio.sleep(SETTLE_PAUSE)
                batch = [entry for entry in batch if not entry.result.done()]
                continue
            self._accept(list(zip(batch[:stored], messages[:stored], strict=True)))
            batch = batch[stored:]
            if batch:
                # Its id or its place is taken; which of the two, the store says when the batch is settled.
                self._doubt(batch[:1])
                before, collided = collided, (batch[0].id, messages[stored].seq)
                if collided == before:
                    # What it collides with is not held by a majority yet, and cannot be seen until it is.
                    await asyncio.sleep(SETTLE_PAUSE)

    async def _settle(self, batch: list[PendingMessage]) -> list[PendingMessage]:
        """Find out what earlier attempts have stored, read doubtful rooms to their end, and return what is left."""
        doubtful = self._doubtful
        if doubtful:
            suspects = [*doubtful.values(), *(entry for entry, _ in self._refused)]
            # First: of what arrives after the look at the ids, nothing may count as known before it is delivered.
            for room in {entry.room.id: entry.room for entry in suspects}.values():
                await self._read_tail(room)
            found = await self._messages.find_many({entry.id for entry in suspects})
            ours = [(entry, found[entry.id]) for entry in suspects if entry.id in found]
            ours = [(entry, message) for entry, message in ours if entry.has_stored(message)]
            self._doubtful = {}
            self._accept(sorted(ours, key=lambda pair: pair[1].seq))
            moment = self._loop.time()
            self._refused = [one for one in self._refused if one[0].id not in found and one[1] > moment]
            for entry in doubtful.values():
                if entry.id in found:
                    self._queue.add_recent(found[entry.id])
                    self._queue.answer(entry, SendResult(found[entry.id], is_new=False))
                elif entry.result.done():
                    self._queue.release(entry)
                    self._refused.append((entry, moment + LATE))
            batch = [entry for entry in batch if not self._is_settled(entry, found)]
        return batch

    def _is_settled(self, entry: PendingMessage, found: Mapping[str, Message]) -> bool:
        """Whether nothing is left to do for one that is to be written; then it is let go of."""
        if entry.id in found:
            # An earlier send under the same id, which was given up, has arrived after all.
            self._queue.answer(entry, SendResult(found[entry.id], is_new=False))
        elif entry.result.done():
            self._queue.release(entry)
        else:
            return False
        return True

    def _number(self, batch: Sequence[PendingMessage]) -> list[Message]:
        """Give each its place after the end of its room, as this process knows it."""
        ends: dict[str, int] = {}
        sent: dict[tuple[str, str], int] = {}
        messages = []
        for entry in batch:
            room = entry.room
            seq = ends.get(room.id, room.last_seq) + 1
            sender_seq = sent.get((room.id, entry.sender_id), room.sent_by(entry.sender_id)) + 1
            ends[room.id] = seq
            sent[room.id, entry.sender_id] = sender_seq
            messages.append(entry.number(seq, sender_seq))
        return messages

    def _accept(self, stored: Sequence[tuple[PendingMessage, Message]]) -> None:
        """Move the ends of the rooms, answer the senders, and hand the messages on for delivery."""
        for entry, message in stored:
            room = entry.room
            if message.seq == room.last_seq + 1:
                room.append(message)
            self._queue.add_recent(message)
            # Let go of by whoever delivers it.
            room.pins += 1
            self._queue.answer(entry, SendResult(message, is_new=True))
        if stored:
            # The answers go out in the loop's next turn, in front of this.
            news = [StoredMessage(entry.room, message, entry.sender_name) for entry, message in stored]
            self._loop.call_soon(self._on_stored, news)

    def _doubt(self, entries: Sequence[PendingMessage]) -> None:
        for entry in entries:
            entry.room.is_checked = False
            self._doubtful[entry.id] = entry
