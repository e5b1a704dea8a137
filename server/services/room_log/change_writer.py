"""Change writer: the task that stores changes of messages, many in one write, numbered in each room."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from server.errors import ChatError, NotFound, Unavailable
from server.failpoints import AFTER_CHANGE, Failpoints
from server.models import ChangeKind, Message, Quote
from server.room_state import RoomState, StoredChange
from server.services.room_log.in_flight import InFlightRooms
from server.services.room_log.write_queue import ACK_TIMEOUT, WriteQueue
from server.storage.mongo.changes import ChangeStore
from server.storage.mongo.mentions import MentionStore
from server.storage.mongo.messages import Change, MessageStore
from server.storage.mongo.rooms import RoomStore

log = logging.getLogger(__name__)

RETRY_DELAY: Final = 0.1
MAX_WAITING: Final = 20_000


class PendingChange:
    """A change without a number yet. `result` completes with the message once it is stored as changed, or refused.

    `apply` is called with the room and the message as they are right before, and returns the message as it is then: the
    same object if nothing changes. It raises if the change is not allowed.
    """

    __slots__ = ("apply", "by", "kind", "message_id", "quote", "result", "room", "sender_name")

    def __init__(
        self,
        room: RoomState,
        message_id: str,
        kind: ChangeKind,
        by: str,
        apply: Callable[[RoomState, Message], Message],
        sender_name: str,
        quote: Quote | None,
    ) -> None:
        self.room = room
        self.message_id = message_id
        self.kind: ChangeKind = kind
        self.by = by
        self.apply = apply
        self.sender_name = sender_name
        self.quote = quote
        self.result: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    def answer(self, message: Message) -> None:
        if not self.result.done():
            self.result.set_result(message)

    def refuse(self, error: ChatError) -> None:
        if not self.result.done():
            self.result.set_exception(error)


class _Step(NamedTuple):
    """One change, and the message after it."""

    pending: PendingChange
    after: Message


class _Attempt:
    """What one write tries to store: for each message, how it was read, and its steps from there."""

    def __init__(self, found: Mapping[str, Message]) -> None:
        self._found = found
        self._steps: dict[str, list[_Step]] = {}

    def add(self, step: _Step) -> None:
        self._steps.setdefault(step.after.id, []).append(step)

    def changes(self) -> list[Change]:
        return [Change(self._found[message_id], steps[-1].after) for message_id, steps in self._steps.items()]

    def rooms(self) -> list[RoomState]:
        return [steps[0].pending.room for steps in self._steps.values()]

    def take_stored(self, found: Mapping[str, Message]) -> "_Attempt":
        """Take out what turns out to be stored. Numbers of changes are unique, so that no other write looks like it."""
        stored = _Attempt(self._found)
        for message_id, steps in list(self._steps.items()):
            if message_id in found and found[message_id].rev == steps[-1].after.rev:
                stored._steps[message_id] = self._steps.pop(message_id)
        return stored

    def skip_numbers(self) -> None:
        """Should a late write store any of this after all, the next change does not follow what clients know."""
        for pending, after in self.in_order():
            pending.room.last_rev = max(pending.room.last_rev, after.rev)

    def in_order(self) -> list[_Step]:
        return sorted((step for steps in self._steps.values() for step in steps), key=lambda step: step.after.rev)


class ChangeWriter:
    """Changes of a message are applied one after the other, so that two at once both count.

    If the outcome of a write is unknown, the messages are read first: what is stored counts, the rest is tried again
    under new numbers. A message is replaced only if it is as it was read, so that a late write changes nothing.
    """

    def __init__(
        self,
        messages: MessageStore,
        changes: ChangeStore,
        mentions: MentionStore,
        rooms: RoomStore,
        save_room: Callable[[RoomState], Awaitable[None]],
        write_queue: WriteQueue,
        in_flight: InFlightRooms,
        on_changed: Callable[[Sequence[StoredChange]], None],
        failpoints: Failpoints,
        *,
        max_batch: int,
    ) -> None:
        self._messages = messages
        self._changes = changes
        self._mentions = mentions
        self._rooms = rooms
        self._save_room = save_room
        self._write_queue = write_queue
        self._in_flight = in_flight
        self._on_changed = on_changed
        self._failpoints = failpoints
        self._max_batch = max_batch
        self._waiting: deque[PendingChange] = deque()
        self._is_closing = False
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = self._loop.create_task(self._write_forever())

    async def close(self) -> None:
        """Refuse new changes, and stop once those that wait are stored or refused."""
        self._is_closing = True
        if self._task is not None:
            await self._idle.wait()
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def change(self, pending: PendingChange) -> Message:
        """Store a change; returns the message as it is then. Raises what `apply` raises, or `Unavailable`."""
        if self._is_closing or len(self._waiting) >= MAX_WAITING:
            raise Unavailable("Changes cannot be stored just now")
        pending.room.pins += 1
        self._waiting.append(pending)
        self._idle.clear()
        self._wake.set()
        expiry = self._loop.call_later(ACK_TIMEOUT, pending.refuse, Unavailable("The change may not be stored"))
        try:
            return await asyncio.shield(pending.result)
        finally:
            expiry.cancel()

    async def _write_forever(self) -> None:
        while True:
            await self._wake.wait()
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]
            try:
                await self._write(batch)
            except Exception:
                log.exception("change batch write failed size=%d", len(batch))
                for pending in batch:
                    pending.refuse(Unavailable())
            for pending in batch:
                pending.room.pins -= 1
            if not self._waiting:
                self._wake.clear()
                self._idle.set()

    async def _write(self, batch: Sequence[PendingChange]) -> None:
        unknown: list[_Attempt] = []
        while True:
            try:
                found = await self._messages.find_many({pending.message_id for pending in batch})
                for attempt in unknown:
                    await self._accept(attempt.take_stored(found))
                attempt = await self._plan([pending for pending in batch if not pending.result.done()], found)
                changes = attempt.changes()
                if not changes:
                    for attempt in unknown:
                        attempt.skip_numbers()
                    return
                unknown.append(attempt)
                await self._in_flight.enter(attempt.rooms())
                await self._changes.note(changes)
                if await self._messages.change(changes) == len(changes):
                    self._failpoints.reach(AFTER_CHANGE)
                    unknown.remove(attempt)
                    await self._accept(attempt)
                    return
            except Unavailable:
                if self._is_closing and all(pending.result.done() for pending in batch):
                    return
                await asyncio.sleep(RETRY_DELAY)

    async def _plan(self, batch: Sequence[PendingChange], found: Mapping[str, Message]) -> _Attempt:
        """Apply the changes, answer those that change nothing or are refused, and number the rest."""
        now = dict(found)
        steps: dict[str, list[_Step]] = {}
        for pending in batch:
            before = now.get(pending.message_id)
            try:
                if before is None or pending.room.is_ended:
                    raise NotFound("No such message")
                after = pending.apply(pending.room, before)
            except ChatError as error:
                pending.refuse(error)
                continue
            if after is before:
                pending.answer(before)
            else:
                now[pending.message_id] = after
                steps.setdefault(pending.room.id, []).append(_Step(pending, after))
        attempt = _Attempt(found)
        await asyncio.gather(*(self._number(attempt, room_id, some) for room_id, some in steps.items()))
        return attempt

    async def _number(self, attempt: _Attempt, room_id: str, steps: Sequence[_Step]) -> None:
        last_mention = max(step.after.seq if step.after.mentions_anybody else 0 for step in steps)
        last = await self._rooms.take_revs(room_id, len(steps), last_mention)
        for rev, (pending, after) in enumerate(steps, (last or 0) - len(steps) + 1):
            if last is None:
                pending.refuse(NotFound("No such message"))
            else:
                attempt.add(_Step(pending, msgspec.structs.replace(after, rev=rev)))

    async def _accept(self, attempt: _Attempt) -> None:
        """Take the changes into the rooms, pass them on for delivery, and answer those who asked for them."""
        stored: list[StoredChange] = []
        for pending, message in attempt.in_order():
            room = pending.room
            previous = room.last_rev
            room.change(message)
            self._write_queue.replace_recent(message)
            # The consumers of the log unpin it.
            room.pins += 1
            stored.append(
                StoredChange(room, message, pending.sender_name, pending.kind, pending.by, previous, pending.quote)
            )
        if stored:
            self._loop.call_soon(self._on_changed, stored)
        await self._put_mentions(
            [after for before, after in attempt.changes() if before.mentions_anybody or after.mentions_anybody]
        )
        for room in {one.room.id: one.room for one in stored if one.kind == "DELETED"}.values():
            # The room's document has a copy of its last message.
            await self._save_room(room)
        for pending, message in attempt.in_order():
            pending.answer(message)

    async def _put_mentions(self, messages: Sequence[Message]) -> None:
        """Until they are stored: the room, which has taken the changes, is saved as if they were."""
        while not self._is_closing:
            try:
                await self._mentions.put(messages)
                return
            except Unavailable:
                await asyncio.sleep(RETRY_DELAY)
        # What is not stored by now follows from the changes at the next start, as the room is not saved either.
        await self._mentions.put(messages)
