"""Reads parts of the log as one user sees them: as JSON, bounded in bytes and in how many are read at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from server.concurrency.fair_queue import FairQueue
from server.errors import NotFound
from server.models import Message
from server.room_state import RoomState
from server.services.rooms.message_access import Quotes
from server.services.rooms.ports import Limits, People
from server.storage.mongo.messages import MessageStore
from server.views import name_of, view_message

# Messages in the first read of a range, before their size is known.
FIRST_READ: Final = 100
# Work between two yields to the event loop: about a millisecond.
BYTES_PER_YIELD: Final = 128 * 1024
# Large answers that are built at the same time, to bound their memory. The fair queue is keyed by user.
READERS: Final = 4
MAX_WAITING_PER_USER: Final = 100
MAX_WAITING: Final = 5_000
READ_SECONDS: Final = 0.02


class Budget:
    """Bytes that are left for messages. The first message always fits, so that every request makes progress."""

    def __init__(self, size: int) -> None:
        self.size = self.left = size

    def take(self, size: int) -> bool:
        if size > self.left and self.left < self.size:
            # A shorter message that comes later must not overtake this one.
            self.left = min(self.left, 0)
            return False
        self.left -= size
        return True

    @property
    def used(self) -> int:
        return self.size - self.left


class LogReader:
    """Callers take a slot for the whole of an answer, and one budget."""

    def __init__(self, people: People, store: MessageStore, quotes: Quotes, limits: Limits) -> None:
        self._people = people
        self._store = store
        self._quotes = quotes
        self._limits = limits
        self._queue = FairQueue(
            READERS, most_per_key=MAX_WAITING_PER_USER, most_waiting=MAX_WAITING, seconds=READ_SECONDS
        )

    @asynccontextmanager
    async def slot(self, user_id: str) -> AsyncIterator[None]:
        """Wait for one of the few. Raises `RateLimited` for a user who reads too much."""
        async with self._queue.take(user_id):
            # The user's reads before this one may have been large.
            self._limits.check_read(user_id, 0)
            yield

    async def read(
        self,
        user_id: str,
        room: RoomState,
        first: int,
        last: int,
        budget: Budget,
        *,
        is_newest_first: bool = False,
        first_read: int = FIRST_READ,
    ) -> list[msgspec.Raw]:
        """The messages of a range as JSON, from one end of it, until the budget is used up."""
        found: list[msgspec.Raw] = []
        size = 0
        while first <= last and budget.left > 0:
            step = first_read if not found else max(1, budget.left * len(found) // size)
            if is_newest_first:
                part = max(first, last - step + 1), last
                last = part[0] - 1
            else:
                part = first, min(last, first + step - 1)
                first = part[1] + 1
            messages = await self._store.read_range(room.id, part[0] - 1, part[1])
            if is_newest_first:
                messages.reverse()
            encoded = await self.encode(user_id, room, messages, budget)
            found += encoded
            size += sum(map(len, map(bytes, encoded)))
            if len(encoded) < len(messages):
                break
        return found

    async def encode(
        self, user_id: str, room: RoomState, messages: Sequence[Message], budget: Budget
    ) -> list[msgspec.Raw]:
        """The first of these messages as JSON, until the budget is used up."""
        people = await self._people.get_many({message.sender_id for message in messages})
        quotes = await self._quotes.find(messages)
        if user_id not in room.members:
            # Removed meanwhile.
            raise NotFound("No such room")
        encoded: list[msgspec.Raw] = []
        unyielded = 0
        for message in messages:
            name = name_of(people.get(message.sender_id))
            quote = room.show_quote(user_id, quotes.get(message.reply_to or ""))
            view = msgspec.json.encode(view_message(message, name, room.is_read(message, user_id), user_id, quote))
            if not budget.take(len(view)):
                break
            encoded.append(msgspec.Raw(view))
            unyielded += len(view)
            if unyielded >= BYTES_PER_YIELD:
                unyielded = 0
                await asyncio.sleep(0)
        return encoded
