"""Room log writer: numbers messages per room and stores batches from many rooms in one write."""

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
from server.storage.mongo.mentions import MentionStore
from server.storage.mongo.messages import MessageStore

log = logging.getLogger(__name__)

# Smaller batches are written without waiting for more messages.
MIN_BATCH_TO_GATHER: Final = 8
MAX_GATHER_SECONDS: Final = 0.004
# Seconds before a failed write is retried or an unknown outcome is looked up again.
RETRY_DELAY: Final = 0.1
# Seconds. A refused write may still reach a halted store, soon after the store resumes.
LATE_WRITE_GRACE: Final = 15.0


class RoomLog:
    """One writer task. Messages are stored before they are acknowledged, then passed to `on_stored` in log order, each
    with a pin on its room.

    Sequence numbers come from memory; the store's unique keys reject wrong ones. If the outcome of a write is unknown,
    the store is read first, and what is missing is retried under the same ids.
    """

    def __init__(
        self,
        write_queue: WriteQueue,
        messages: MessageStore,
        mentions: MentionStore,
        read_tail: Callable[[RoomState], Awaitable[object]],
        on_stored: Callable[[Sequence[StoredMessage]], None],
        in_flight: InFlightRooms,
        failpoints: Failpoints,
        note_batch: Callable[[int, float], None],
        *,
        max_batch: int,
    ) -> None:
        self._note_batch = note_batch
        self._queue = write_queue
        self._messages = messages
        self._mentions = mentions
        self._read_tail = read_tail
        self._on_stored = on_stored
        self._in_flight = in_flight
        self._failpoints = failpoints
        self._max_batch = max_batch
        self._unresolved: dict[str, PendingMessage] = {}
        self._refused: list[tuple[PendingMessage, float]] = []
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._last_size = 0
        self._last_seconds = 0.0

    def start(self) -> None:
        self._tasks = [
            self._loop.create_task(work) for work in (self._write_forever(), self._queue.refuse_expired_forever())
        ]

    async def close(self) -> None:
        """Refuse new messages, store the queued ones if the store is available, and stop."""
        await self._queue.close(RETRY_DELAY)
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _write_forever(self) -> None:
        while True:
            await self._queue.wait_for_work()
            await self._gather()
            batch = self._queue.take(self._max_batch)
            begun = self._loop.time()
            try:
                await self._write(batch)
            except Exception:
                log.exception("message batch write failed size=%d", len(batch))
                # The start of the batch may be stored and passed on already.
                batch = [pending for pending in batch if self._queue.owns(pending)]
                self._mark_unresolved(batch)
                for pending in batch:
                    pending.refuse()
                await asyncio.sleep(RETRY_DELAY)
            self._last_size, self._last_seconds = len(batch), self._loop.time() - begun
            if not self._unresolved:
                self._queue.mark_idle()

    async def _gather(self) -> None:
        """Wait for more messages if far fewer are queued than were written last: every write has a fixed cost.

        The last senders are about to send again. Two alternating batches, one at the store and one at the senders,
        keep both busy.
        """
        if self._last_size >= MIN_BATCH_TO_GATHER and 2 * self._queue.waiting < self._last_size:
            await asyncio.sleep(min(MAX_GATHER_SECONDS, self._last_seconds / 2))

    async def _write(self, batch: list[PendingMessage]) -> None:
        """Store all of `batch`. Messages that are refused meanwhile are dropped from it."""
        collided: tuple[str, int] | None = None
        while batch or self._unresolved:
            try:
                batch = await self._drop_refused(await self._resolve(batch))
                if not batch:
                    return
                await self._in_flight.enter(pending.room for pending in batch)
                messages = self._number(batch)
                begun = self._loop.time()
                stored = await self._messages.insert(messages)
                self._note_batch(stored, self._loop.time() - begun)
                self._failpoints.reach(AFTER_INSERT)
                await self._note_mentions(messages[:stored])
            except Unavailable:
                self._mark_unresolved(batch)
                await self._queue.wait_for_store(batch)
                # The store may answer and still fail to confirm writes.
                await asyncio.sleep(RETRY_DELAY)
                batch = [pending for pending in batch if not pending.result.done()]
                continue
            self._accept(list(zip(batch[:stored], messages[:stored], strict=True)))
            batch = batch[stored:]
            if batch:
                # Its id or its sequence number is taken; `_resolve` finds out which.
                self._mark_unresolved(batch[:1])
                before, collided = collided, (batch[0].id, messages[stored].seq)
                if collided == before:
                    # The conflicting message is not majority-committed yet, so it cannot be read.
                    await asyncio.sleep(RETRY_DELAY)

    async def _resolve(self, batch: list[PendingMessage]) -> list[PendingMessage]:
        """Look up unknown outcomes, read their rooms to the end, and return what is left to write."""
        unresolved = self._unresolved
        if unresolved:
            candidates = [*unresolved.values(), *(pending for pending, _ in self._refused)]
            # Tails first: otherwise a message stored between the two reads would join the log without being delivered.
            for room in {pending.room.id: pending.room for pending in candidates}.values():
                await self._read_tail(room)
            found = await self._messages.find_many({pending.id for pending in candidates})
            ours = [(pending, found[pending.id]) for pending in candidates if pending.id in found]
            ours = [(pending, message) for pending, message in ours if pending.has_stored(message)]
            await self._note_mentions([message for _, message in ours])
            self._unresolved = {}
            self._accept(sorted(ours, key=lambda pair: pair[1].seq))
            moment = self._loop.time()
            self._refused = [one for one in self._refused if one[0].id not in found and one[1] > moment]
            for pending in unresolved.values():
                if pending.id in found:
                    self._queue.add_recent(found[pending.id])
                    self._queue.answer(pending, SendResult(found[pending.id], is_new=False))
                elif pending.result.done():
                    self._queue.release(pending)
                    self._refused.append((pending, moment + LATE_WRITE_GRACE))
            batch = [pending for pending in batch if not self._is_resolved(pending, found)]
        return batch

    def _is_resolved(self, pending: PendingMessage, found: Mapping[str, Message]) -> bool:
        """Whether a message needs no write. If so, it is released."""
        if pending.id in found:
            # An earlier send under the same id was refused, but stored after all.
            self._queue.answer(pending, SendResult(found[pending.id], is_new=False))
        elif pending.result.done():
            self._queue.release(pending)
        else:
            return False
        return True

    def _number(self, batch: Sequence[PendingMessage]) -> list[Message]:
        """Number each message after the end of its room as this process knows it."""
        ends: dict[str, int] = {}
        sent: dict[tuple[str, str], int] = {}
        messages = []
        for pending in batch:
            room, notices = pending.room, pending.room.notices
            seq = ends.get(room.id, room.last_seq) + 1
            sender_seq = sent.get((room.id, pending.sender_id), room.sent_by(pending.sender_id))
            if pending.notice is None:
                sender_seq += 1
            else:
                # A notice is the last of its batch.
                notices += 1
            ends[room.id] = seq
            sent[room.id, pending.sender_id] = sender_seq
            messages.append(pending.number(seq, sender_seq, notices))
        return messages

    async def _drop_refused(self, batch: list[PendingMessage]) -> list[PendingMessage]:
        """Refuse what may not be stored in its room any more, e.g. of senders who were removed or blocked.

        What an earlier send under the same id stored is answered. Raises `Unavailable`.
        """
        refusals = {pending: refusal for pending in batch if (refusal := pending.find_refusal()) is not None}
        if not refusals:
            return batch
        found = await self._messages.find_many({pending.id for pending in refusals if pending.client_message_id})
        for pending, refusal in refusals.items():
            if pending.id in found:
                self._queue.answer(pending, SendResult(found[pending.id], is_new=False))
            else:
                pending.refuse(refusal)
                self._queue.release(pending)
        return [pending for pending in batch if pending not in refusals]

    def _accept(self, stored: Sequence[tuple[PendingMessage, Message]]) -> None:
        """Append to the rooms, answer the senders, and pass the messages on for delivery."""
        for pending, message in stored:
            room = pending.room
            if message.seq == room.last_seq + 1:
                room.append(message)
            self._queue.add_recent(message)
            # The consumers of the log unpin it.
            room.pins += 1
            self._queue.answer(pending, SendResult(message, is_new=True))
        if stored:
            # Acks go out in the loop's next iteration, before this.
            undelivered = [
                StoredMessage(pending.room, message, pending.sender_name, pending.quote) for pending, message in stored
            ]
            self._loop.call_soon(self._on_stored, undelivered)

    async def _note_mentions(self, messages: Sequence[Message]) -> None:
        mentioning = [message for message in messages if message.mentions_anybody]
        if mentioning:
            await self._mentions.put(mentioning)

    def _mark_unresolved(self, batch: Sequence[PendingMessage]) -> None:
        for pending in batch:
            pending.room.is_checked = False
            self._unresolved[pending.id] = pending
