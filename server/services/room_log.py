"""The room log: gives every message its place in its room and stores many rooms' messages in one write."""

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Final, Protocol

from server.drafts import Draft, Sent, derive_message_id
from server.errors import ChatError, Unavailable
from server.faults import AFTER_INSERT, CrashPoints
from server.models import Message, now
from server.room_state import RoomState
from server.storage.messages import MessageStore

log = logging.getLogger(__name__)

# A sender is answered within five seconds also when the store is away; this leaves time for the way back.
PATIENCE: Final = 4.5
# Repeats usually come seconds after the first; later ones are judged by the store.
MAX_REMEMBERED: Final = 20_000
MAX_WAITING: Final = 20_000
# Between two looks at what an unknown outcome has become.
SETTLE_PAUSE: Final = 0.1


class Store(Protocol):
    """Whether the database answers, and waiting until it does."""

    @property
    def is_available(self) -> bool: ...

    async def wait_available(self, timeout: float) -> bool: ...


class InFlight(Protocol):
    """Notes rooms that a crash may leave with undelivered messages."""

    async def enter(self, rooms: Iterable[RoomState]) -> None: ...


class _Entry:
    """A draft on its way into the log."""

    __slots__ = ("deadline", "draft", "id", "result", "sent_at", "tried")

    def __init__(self, draft: Draft, message_id: str, result: "asyncio.Future[Sent]", deadline: float) -> None:
        self.draft = draft
        self.id = message_id
        self.result = result
        self.deadline = deadline
        self.sent_at: datetime = now()
        self.tried: list[int] = []


class RoomLog:
    """One writer task. What it acknowledges is stored; what it stored is told to `on_stored`, in the log's order.

    A room's numbers come from memory and are judged by the store's unique keys. When the outcome of a write is
    unknown, the same messages are tried again under the same ids, after a look at what is there already.
    """

    def __init__(
        self,
        messages: MessageStore,
        store: Store,
        read_tail: Callable[[RoomState], Awaitable[None]],
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
        self._waiting: deque[_Entry] = deque()
        self._by_id: dict[str, _Entry] = {}
        self._remembered: OrderedDict[str, Message] = OrderedDict()
        self._doubtful: dict[str, _Entry] = {}
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._writer = self._loop.create_task(self._write_forever())

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
            pending.result.add_done_callback(lambda first: _follow(first, result))
            return result
        if not self._store.is_available or len(self._waiting) >= MAX_WAITING:
            raise Unavailable("Messages cannot be stored just now")
        entry = _Entry(draft, message_id, result, self._loop.time() + PATIENCE)
        draft.room.holds += 1
        self._by_id[message_id] = entry
        self._waiting.append(entry)
        self._wake.set()
        return result

    def remembered(self, message_id: str) -> Message | None:
        """A message that was stored or asked for lately, without asking the store."""
        return self._remembered.get(message_id)

    async def close(self) -> None:
        """Store what waits, as far as the store allows, and stop."""
        while self._by_id:
            await asyncio.wait([entry.result for entry in self._by_id.values()])
            # An outcome that is in doubt is settled by the writer a little later.
            await asyncio.sleep(SETTLE_PAUSE)
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer

    async def _write_forever(self) -> None:
        while True:
            await self._wake.wait()
            batch = [self._waiting.popleft() for _ in range(min(self._max_batch, len(self._waiting)))]
            try:
                await self._write(batch)
            except Exception:
                log.exception("a batch of %d messages was not stored", len(batch))
                self._doubt(batch)
                self._fail(batch, Unavailable("Messages cannot be stored just now"))
                await asyncio.sleep(SETTLE_PAUSE)
            if not self._waiting and not self._doubtful:
                self._wake.clear()

    async def _write(self, batch: list[_Entry]) -> None:
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

    async def _settle(self, batch: list[_Entry]) -> list[_Entry]:
        """Find out what earlier attempts have stored, read doubtful rooms to their end, and return what is left."""
        doubtful = self._doubtful
        if doubtful:
            found = await self._messages.find_many(list(doubtful))
            ours = [
                (entry, found[entry.id])
                for entry in doubtful.values()
                if entry.id in found and found[entry.id].seq in entry.tried and found[entry.id].sent_at == entry.sent_at
            ]
            for room in {entry.draft.room.id: entry.draft.room for entry in doubtful.values()}.values():
                await self._read_tail(room)
            self._doubtful = {}
            self._accept(sorted(ours, key=lambda pair: pair[1].seq))
            for entry in doubtful.values():
                if entry.id in found:
                    self._remember(found[entry.id])
                    self._resolve(entry, Sent(found[entry.id], is_new=False))
                elif entry.result.done():
                    self._release(entry)
            batch = [entry for entry in batch if entry.id not in found and not entry.result.done()]
        return batch

    def _number(self, batch: Sequence[_Entry]) -> list[Message]:
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
            entry.tried.append(seq)
            messages.append(
                Message(
                    id=entry.id,
                    room_id=room.id,
                    seq=seq,
                    sender_id=draft.sender_id,
                    sender_seq=sender_seq,
                    content=draft.content,
                    type=draft.type,
                    sent_at=entry.sent_at,
                    attachment_url=draft.attachment_url,
                    client_message_id=draft.client_message_id,
                )
            )
        return messages

    def _accept(self, stored: Sequence[tuple[_Entry, Message]]) -> None:
        """Move the ends of the rooms, answer the senders, and hand the messages on for delivery."""
        for entry, message in stored:
            room = entry.draft.room
            if message.seq == room.last_seq + 1:
                room.append(message)
            self._remember(message)
            # Let go of by whoever delivers it.
            room.holds += 1
            self._resolve(entry, Sent(message, is_new=True))
        if stored:
            # The answers go out in the loop's next turn, in front of this.
            self._loop.call_soon(self._on_stored, [(entry.draft.room, message) for entry, message in stored])

    def _doubt(self, entries: Sequence[_Entry]) -> None:
        for entry in entries:
            entry.draft.room.is_checked = False
            self._doubtful[entry.id] = entry

    async def _wait_for_store(self, batch: list[_Entry]) -> list[_Entry]:
        """Wait until the store is back or the patience of somebody ends; return those who still wait."""
        waiting = [*batch, *self._waiting]
        patience = min((entry.deadline for entry in waiting), default=self._loop.time() + PATIENCE) - self._loop.time()
        await self._store.wait_available(max(patience, 0.01))
        late = [entry for entry in waiting if entry.deadline <= self._loop.time()]
        self._fail(late, Unavailable("Messages cannot be stored just now"))
        self._waiting = deque(entry for entry in self._waiting if not entry.result.done())
        return [entry for entry in batch if not entry.result.done()]

    def _fail(self, entries: Sequence[_Entry], error: ChatError) -> None:
        for entry in entries:
            if not entry.result.done():
                entry.result.set_exception(error)
                entry.result.exception()
            if entry.id not in self._doubtful:
                self._release(entry)

    def _resolve(self, entry: _Entry, sent: Sent) -> None:
        if not entry.result.done():
            entry.result.set_result(sent)
        self._release(entry)

    def _release(self, entry: _Entry) -> None:
        if self._by_id.pop(entry.id, None) is not None:
            entry.draft.room.holds -= 1

    def _remember(self, message: Message) -> None:
        self._remembered[message.id] = message
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)


def _follow(first: "asyncio.Future[Sent]", second: "asyncio.Future[Sent]") -> None:
    """Give a concurrent repeat the outcome of the first."""
    if second.done():
        return
    if first.cancelled():
        second.set_exception(Unavailable("The first send was given up"))
    elif (error := first.exception()) is not None:
        second.set_exception(error)
    else:
        second.set_result(Sent(first.result().message, is_new=False))
