"""The room log: gives every message its place in its room and stores many rooms' messages in one write."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol

from server.drafts import Draft, Entry, Sent, derive_message_id, follow
from server.errors import ChatError, Unavailable
from server.faults import AFTER_INSERT, CrashPoints
from server.models import Message
from server.remembered import RememberedMessages
from server.room_state import RoomState
from server.storage.messages import MessageStore

log = logging.getLogger(__name__)

# A sender is answered within five seconds also when the store is away; this leaves time for the way back.
PATIENCE: Final = 4.5
# Repeats usually come seconds after the first; later ones are judged by the store.
MAX_REMEMBERED: Final = 20_000
MAX_REMEMBERED_BYTES: Final = 64 * 1024 * 1024
MAX_WAITING: Final = 20_000
# Below this many a message never waits for another.
LEAST_TO_GATHER: Final = 8
LONGEST_GATHERING: Final = 0.004
# Between two looks at what an unknown outcome has become.
SETTLE_PAUSE: Final = 0.1
# A write that was given up may still arrive at a store that was halted; it does so soon after the store is back.
LATE: Final = 15.0
LATE_CHECK: Final = 0.2


class Store(Protocol):
    """Whether the database answers, and waiting until it does."""

    @property
    def is_available(self) -> bool: ...

    async def wait_available(self, timeout: float) -> bool: ...


class InFlight(Protocol):
    """Notes rooms that a crash may leave with undelivered messages."""

    async def enter(self, rooms: Iterable[RoomState]) -> None: ...


class RoomLog:
    """One writer task. What it acknowledges is stored; what it stored is told to `on_stored`, in the log's order.

    A room's numbers come from memory and are judged by the store's unique keys. When the outcome of a write is
    unknown, the same messages are tried again under the same ids, after a look at what is there already.
    """

    def __init__(
        self,
        messages: MessageStore,
        store: Store,
        read_tail: Callable[[RoomState], Awaitable[object]],
        on_stored: Callable[[Sequence[tuple[RoomState, Message]]], None],
        in_flight: InFlight,
        crash: CrashPoints,
        *,
        max_batch: int,
    ) -> None:
        self._messages = messages
        self._store = store
        self._read_tail = read_tail
        self._on_stored = on_stored
        self._in_flight = in_flight
        self._crash = crash
        self._max_batch = max_batch
        self._waiting: deque[Entry] = deque()
        self._by_id: dict[str, Entry] = {}
        self._remembered = RememberedMessages(max_messages=MAX_REMEMBERED, max_bytes=MAX_REMEMBERED_BYTES)
        self._doubtful: dict[str, Entry] = {}
        self._refused: list[tuple[Entry, float]] = []
        self._is_closing = False
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._last_size = 0
        self._last_seconds = 0.0

    def start(self) -> None:
        self._tasks = [self._loop.create_task(work) for work in (self._write_forever(), self._refuse_late())]

    def append(self, draft: Draft) -> "asyncio.Future[Sent]":
        """Queue a draft in the order of calls; ends once it is stored. Raises `Unavailable` at once or later."""
        message_id = derive_message_id(draft)
        result: asyncio.Future[Sent] = self._loop.create_future()
        known = self._remembered.get(message_id)
        if known is not None:
            result.set_result(Sent(known, is_new=False))
            return result
        pending = self._by_id.get(message_id)
        if pending is not None:
            pending.result.add_done_callback(lambda first: follow(first, result))
            return result
        if self._is_closing or not self._store.is_available or len(self._waiting) >= MAX_WAITING:
            raise Unavailable("Messages cannot be stored just now")
        entry = Entry(draft, message_id, result, self._loop.time() + PATIENCE)
        draft.room.holds += 1
        self._by_id[message_id] = entry
        self._waiting.append(entry)
        self._wake.set()
        return result

    def remembered(self, message_id: str) -> Message | None:
        """A message that was stored or asked for lately, without asking the store."""
        return self._remembered.get(message_id)

    async def close(self) -> None:
        """Refuse what is new, store what waits, as far as the store allows, and stop."""
        self._is_closing = True
        while self._by_id:
            await asyncio.wait([entry.result for entry in self._by_id.values()])
            # An outcome that is in doubt is settled by the writer a little later.
            await asyncio.sleep(SETTLE_PAUSE)
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _write_forever(self) -> None:
        while True:
            await self._wake.wait()
            await self._gather()
            batch = self._take_batch()
            begun = self._loop.time()
            try:
                await self._write(batch)
            except Exception:
                log.exception("a batch of %d messages was not stored", len(batch))
                # Its beginning may be stored and handed on already.
                batch = [entry for entry in batch if self._by_id.get(entry.id) is entry]
                self._doubt(batch)
                self._fail(batch, Unavailable("Messages cannot be stored just now"))
                await asyncio.sleep(SETTLE_PAUSE)
            self._last_size, self._last_seconds = len(batch), self._loop.time() - begun
            if not self._waiting and not self._doubtful:
                self._wake.clear()

    def _take_batch(self) -> list[Entry]:
        """The next ones whose senders still wait."""
        batch: list[Entry] = []
        while self._waiting and len(batch) < self._max_batch:
            entry = self._waiting.popleft()
            if entry.result.done():
                self._release(entry)
            else:
                batch.append(entry)
        return batch

    async def _refuse_late(self) -> None:
        """Nobody waits longer than the patience, also while the store keeps an answer back.

        What is on its way to the store then and arrives after all is delivered like any other.
        """
        while True:
            await asyncio.sleep(LATE_CHECK)
            for entry in self._by_id.values():
                if entry.deadline > self._loop.time():
                    break
                if not entry.result.done():
                    entry.result.set_exception(Unavailable("Messages cannot be stored just now"))
                    entry.result.exception()

    async def _gather(self) -> None:
        """Let more come in where far fewer wait than were written last: every write has a price of its own.

        Those who were answered last are about to send again. Two batches in turn, one on its way to the store and
        one with the senders, keep both sides busy.
        """
        if self._last_size >= LEAST_TO_GATHER and 2 * len(self._waiting) < self._last_size:
            await asyncio.sleep(min(LONGEST_GATHERING, self._last_seconds / 2))

    async def _write(self, batch: list[Entry]) -> None:
        """Store all of `batch`, or fail what could not be stored in time."""
        while batch or self._doubtful:
            try:
                batch = await self._settle(batch)
                if not batch:
                    return
                await self._in_flight.enter(entry.draft.room for entry in batch)
                messages = self._number(batch)
                stored = await self._messages.insert(messages)
                self._crash.reach(AFTER_INSERT)
            except Unavailable:
                self._doubt(batch)
                batch = await self._wait_for_store(batch)
                continue
            self._accept(list(zip(batch[:stored], messages[:stored], strict=True)))
            batch = batch[stored:]
            if batch:
                # Its id or its place is taken; which of the two, the store says when the batch is settled.
                self._doubt(batch[:1])

    async def _settle(self, batch: list[Entry]) -> list[Entry]:
        """Find out what earlier attempts have stored, read doubtful rooms to their end, and return what is left."""
        doubtful = self._doubtful
        if doubtful:
            suspects = [*doubtful.values(), *(entry for entry, _ in self._refused)]
            found = await self._messages.find_many({entry.id for entry in suspects})
            ours = [(entry, found[entry.id]) for entry in suspects if entry.id in found]
            ours = [(entry, message) for entry, message in ours if entry.has_stored(message)]
            for room in {entry.draft.room.id: entry.draft.room for entry in suspects}.values():
                await self._read_tail(room)
            self._doubtful = {}
            self._accept(sorted(ours, key=lambda pair: pair[1].seq))
            moment = self._loop.time()
            self._refused = [one for one in self._refused if one[0].id not in found and one[1] > moment]
            for entry in doubtful.values():
                if entry.id in found:
                    self._remembered.put(found[entry.id])
                    self._resolve(entry, Sent(found[entry.id], is_new=False))
                elif entry.result.done():
                    self._release(entry)
                    self._refused.append((entry, moment + LATE))
            batch = [entry for entry in batch if entry.id not in found and not entry.result.done()]
        return batch

    def _number(self, batch: Sequence[Entry]) -> list[Message]:
        """Give each its place after the end of its room, as this process knows it."""
        ends: dict[str, int] = {}
        sent: dict[tuple[str, str], int] = {}
        messages = []
        for entry in batch:
            draft = entry.draft
            room = draft.room
            seq = ends.get(room.id, room.last_seq) + 1
            sender_seq = sent.get((room.id, draft.sender_id), room.sent_by(draft.sender_id)) + 1
            ends[room.id] = seq
            sent[room.id, draft.sender_id] = sender_seq
            messages.append(entry.try_place(seq, sender_seq))
        return messages

    def _accept(self, stored: Sequence[tuple[Entry, Message]]) -> None:
        """Move the ends of the rooms, answer the senders, and hand the messages on for delivery."""
        for entry, message in stored:
            room = entry.draft.room
            if message.seq == room.last_seq + 1:
                room.append(message)
            self._remembered.put(message)
            # Let go of by whoever delivers it.
            room.holds += 1
            self._resolve(entry, Sent(message, is_new=True))
        if stored:
            # The answers go out in the loop's next turn, in front of this.
            self._loop.call_soon(self._on_stored, [(entry.draft.room, message) for entry, message in stored])

    def _doubt(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            entry.draft.room.is_checked = False
            self._doubtful[entry.id] = entry

    async def _wait_for_store(self, batch: list[Entry]) -> list[Entry]:
        """Wait until the store is back or the patience of somebody ends; return those who still wait."""
        waiting = [*batch, *self._waiting]
        patience = min((entry.deadline for entry in waiting), default=self._loop.time() + PATIENCE) - self._loop.time()
        await self._store.wait_available(max(patience, 0.01))
        late = [entry for entry in waiting if entry.deadline <= self._loop.time()]
        self._fail(late, Unavailable("Messages cannot be stored just now"))
        self._waiting = deque(entry for entry in self._waiting if not entry.result.done())
        return [entry for entry in batch if not entry.result.done()]

    def _fail(self, entries: Sequence[Entry], error: ChatError) -> None:
        for entry in entries:
            if not entry.result.done():
                entry.result.set_exception(error)
                entry.result.exception()
            if entry.id not in self._doubtful:
                self._release(entry)

    def _resolve(self, entry: Entry, sent: Sent) -> None:
        if not entry.result.done():
            entry.result.set_result(sent)
        self._release(entry)

    def _release(self, entry: Entry) -> None:
        if self._by_id.get(entry.id) is entry:
            del self._by_id[entry.id]
            entry.draft.room.holds -= 1
