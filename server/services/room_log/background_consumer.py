"""Background consumer: follows the log at its own pace, and catches up after failures, restarts and overflows."""

import asyncio
import contextlib
import itertools
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from server.errors import Unavailable
from server.models import Message
from server.room_state import RoomState, StoredChange, StoredMessage
from server.services.room_log.in_flight import InFlightRooms
from server.services.room_log.ports import People, RoomLoader
from server.storage.mongo.backfills import BackfillStore
from server.storage.mongo.changes import ChangeStore
from server.storage.mongo.messages import MessageStore
from server.views import name_of

log = logging.getLogger(__name__)

# Names are keys in documents of rooms.
NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
# Messages that one call gets; also bounds how many it sees again after a failure.
MAX_BATCH: Final = 500
# Messages kept in memory until they are consumed. Others are read from the log again.
MAX_FRESH: Final = 5_000
# Rooms that a consumer may be behind in before it forgets which and looks at all rooms instead. Each is kept in memory.
MAX_BEHIND: Final = 10_000
ROOMS_PER_PAGE: Final = 100
# Seconds before a failed call is repeated: the first time, and at most.
MIN_RETRY_DELAY: Final = 0.1
MAX_RETRY_DELAY: Final = 30.0
# Seconds between looks whether a consumer has caught up enough for more rooms.
BACKFILL_PAUSE: Final = 0.1


class LogConsumer(NamedTuple):
    """What a background consumer is and does.

    `consume` gets messages of one or more rooms, in the order of each room and without gaps, and returns once it is
    done with all of them. A message that has changed (its `rev` is not 0) comes again as it stands then. After an
    error, or if the server ends meanwhile, it gets them again, perhaps in other groups.
    The server keeps a cursor for each room under `name`; a new name begins with the oldest message of every room.
    """

    name: str
    consume: Callable[[Sequence[StoredMessage]], Awaitable[None]]
    max_behind: int = MAX_BEHIND


class _Behind:
    """A room with messages after the cursor, pinned once. `fresh` has some of them, without gaps."""

    __slots__ = ("failures", "fresh", "room")

    def __init__(self, room: RoomState) -> None:
        self.room = room
        self.fresh: deque[StoredMessage] = deque()
        self.failures = 0


class _Part(NamedTuple):
    """What a call gets of one room. `rev` is set if these are changed messages: the last change that they include."""

    behind: _Behind
    entries: Sequence[StoredMessage] = ()
    rev: int | None = None


class BackgroundConsumer:
    """Runs one `LogConsumer`. A room that fails is retried by itself, after growing pauses, and delays no other.

    Rooms are remembered while the consumer is behind in them, up to `max_behind`. Beyond that, and for a new consumer,
    a backfill looks at every room; its position is stored, so that it goes on after a restart.
    """

    def __init__(
        self,
        consumer: LogConsumer,
        messages: MessageStore,
        changes: ChangeStore,
        people: People,
        loader: RoomLoader,
        in_flight: InFlightRooms,
        backfills: BackfillStore,
    ) -> None:
        if not NAME.fullmatch(consumer.name):
            raise ValueError(f"consumer name {consumer.name!r} does not match {NAME.pattern}")
        self.name = consumer.name
        # The number of the last change that the consumer is done with is kept beside its cursors.
        self._rev_name = f"{consumer.name}:rev"
        self._consume = consumer.consume
        self._max_behind = consumer.max_behind
        self._messages = messages
        self._changes = changes
        self._people = people
        self._loader = loader
        self._in_flight = in_flight
        self._backfills = backfills
        self._loop = asyncio.get_running_loop()
        self._behind: dict[str, _Behind] = {}
        self._ready: deque[_Behind] = deque()
        self._fresh = 0
        self._wake = asyncio.Event()
        self._overflow = asyncio.Event()
        # Set while the store knows that the backfill is to begin anew, so that a room may be forgotten.
        self._may_forget = False
        self._failed_calls = 0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [self._loop.create_task(work) for work in (self._consume_forever(), self._backfill_forever())]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def take(self, stored: Sequence[StoredMessage]) -> None:
        """Remember new messages, and their rooms."""
        for one in stored:
            behind = self._remember(one.room)
            if behind is None or self._fresh >= MAX_FRESH:
                continue
            fresh = behind.fresh
            if not fresh or one.message.seq == fresh[-1].message.seq + 1:
                fresh.append(one)
                self._fresh += 1

    def take_changes(self, stored: Sequence[StoredChange]) -> None:
        """Remember the rooms of changed messages; these are read again."""
        for one in stored:
            self._remember(one.room)

    def note_loaded(self, room: RoomState) -> None:
        if self._is_behind(room):
            self._remember(room)

    async def resume(self, room: RoomState) -> set[str]:
        self.note_loaded(room)
        return set()

    def _is_behind(self, room: RoomState) -> bool:
        return room.cursor(self.name) < room.last_seq or room.cursor(self._rev_name) < room.last_rev

    def _remember(self, room: RoomState) -> _Behind | None:
        """The room among those that the consumer is behind in; None if it is left to the backfill."""
        behind = self._behind.get(room.id)
        if behind is None:
            if len(self._behind) >= self._max_behind:
                if self._may_forget:
                    return None
                self._overflow.set()
            room.pins += 1
            behind = self._behind[room.id] = _Behind(room)
            self._make_ready(behind)
        return behind

    def _make_ready(self, behind: _Behind) -> None:
        self._ready.append(behind)
        self._wake.set()

    async def _consume_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._ready:
                await self._consume_batch()

    async def _consume_batch(self) -> None:
        """Consume some messages of the rooms that are ready. A room that has failed before gets a call of its own."""
        batch: list[_Part] = []
        size = 0
        try:
            while self._ready and size < MAX_BATCH and not (batch and self._ready[0].failures):
                behind = self._ready.popleft()
                batch.append(_Part(behind))
                batch[-1] = part = await self._read_next(behind, MAX_BATCH - size)
                size += len(part.entries)
                if behind.failures:
                    break
            await self._consume([one for part in batch for one in part.entries])
        except Exception as error:
            self._failed_calls += 1
            if not isinstance(error, Unavailable):
                log.exception("log consumer failed consumer=%s rooms=%d messages=%d", self.name, len(batch), size)
            for part in batch:
                part.behind.failures += 1
                self._loop.call_later(_retry_delay(part.behind.failures), self._make_ready, part.behind)
            # If everything fails, trying the other rooms at full speed would be of no use.
            await asyncio.sleep(_retry_delay(self._failed_calls))
        else:
            self._failed_calls = 0
            for part in batch:
                self._advance(part)

    def _advance(self, part: _Part) -> None:
        behind, entries = part.behind, part.entries
        room, behind.failures = behind.room, 0
        if part.rev is not None:
            room.advance(self._rev_name, part.rev)
        else:
            # A log has no gaps, and if one was damaged, the consumer must not stop there.
            room.advance(self.name, entries[-1].message.seq if entries else room.cursor(self.name) + 1)
        self._drop_consumed(behind)
        if self._is_behind(room):
            self._make_ready(behind)
        else:
            self._fresh -= len(behind.fresh)
            del self._behind[room.id]
            room.pins -= 1

    async def _read_next(self, behind: _Behind, limit: int) -> _Part:
        """The messages after the cursor, at most `limit`: those in memory, else from the log. Then those changed."""
        self._drop_consumed(behind)
        room, cursor = behind.room, behind.room.cursor(self.name)
        if behind.fresh and behind.fresh[0].message.seq == cursor + 1:
            return _Part(behind, list(itertools.islice(behind.fresh, limit)))
        if cursor < room.last_seq:
            messages = await self._messages.read_range(room.id, cursor, min(room.last_seq, cursor + limit))
            return _Part(behind, await self._name(room, messages))
        last_rev = room.last_rev
        noted = await self._changes.find_since(room.id, room.cursor(self._rev_name), 0, cursor, limit)
        changed = await self._messages.find_many([change.message_id for change in noted])
        entries = await self._name(room, list(changed.values()))
        return _Part(behind, entries, last_rev if len(noted) < limit else min(noted[-1].rev, last_rev))

    async def _name(self, room: RoomState, messages: Sequence[Message]) -> list[StoredMessage]:
        senders = await self._people.get_many({message.sender_id for message in messages})
        return [StoredMessage(room, message, name_of(senders.get(message.sender_id))) for message in messages]

    def _drop_consumed(self, behind: _Behind) -> None:
        cursor = behind.room.cursor(self.name)
        while behind.fresh and behind.fresh[0].message.seq <= cursor:
            behind.fresh.popleft()
            self._fresh -= 1

    async def _backfill_forever(self) -> None:
        failures = 0
        while True:
            try:
                await self._backfill()
                failures = 0
                await self._overflow.wait()
                await self._backfills.restart(self.name)
            except Unavailable:
                failures += 1
                await asyncio.sleep(_retry_delay(failures))

    async def _backfill(self) -> None:
        """Look at every room from the stored position on, in the order of ids."""
        position = await self._backfills.read(self.name)
        # An overflow during an earlier pass: that pass has not seen what was forgotten.
        self._may_forget = position == "" and self._overflow.is_set()
        while position is not None:
            while 2 * len(self._behind) >= self._max_behind:
                await asyncio.sleep(BACKFILL_PAUSE)
            if self._may_forget:
                # Rooms that were forgotten so far are seen by this pass. From here on none is forgotten.
                self._may_forget = False
                self._overflow.clear()
            room_ids = await self._loader.find_ids(position, ROOMS_PER_PAGE)
            if not room_ids:
                await self._backfills.finish(self.name)
                return
            rooms = await self._loader.load_many(room_ids)
            behind = [room for room in rooms if self._is_behind(room)]
            for room in behind:
                self._remember(room)
            # Before the position: a crash in between must not lose them.
            await self._in_flight.enter(behind)
            position = room_ids[-1]
            if self._overflow.is_set():
                return
            await self._backfills.save(self.name, position)


def _retry_delay(failures: int) -> float:
    return min(MAX_RETRY_DELAY, MIN_RETRY_DELAY * 2.0 ** min(failures - 1, 20))
