"""The way into the room log: each message id once, in the order of asking, and an answer in time for everybody."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

from server.errors import Unavailable
from server.models import Message
from server.services.room_log.pending import PendingMessage, SendResult
from server.services.room_log.recent_messages import RecentMessages
from server.storage.mongo.database import Database

# A sender is answered within five seconds also when the store is away; this leaves time for the way back.
ACK_TIMEOUT: Final = 4.5
LATE_CHECK: Final = 0.2
MAX_WAITING: Final = 20_000
# Repeats usually come seconds after the first; later ones are judged by the store.
MAX_RECENT: Final = 20_000
MAX_RECENT_BYTES: Final = 16 * 1024 * 1024


class WriteQueue:
    """Entries that wait for the writer, and those that it has taken and not let go of.

    An entry holds its room from `append` to `release`.
    """

    def __init__(self, store: Database) -> None:
        self._store = store
        self._waiting: deque[PendingMessage] = deque()
        self._by_id: dict[str, PendingMessage] = {}
        self._recent = RecentMessages(max_messages=MAX_RECENT, max_bytes=MAX_RECENT_BYTES)
        self._is_closing = False
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._busy_at = 0.0

    def append(self, message: PendingMessage) -> None:
        """Queue a message in the order of calls. Its result ends once it is stored. Raises `Unavailable`."""
        known = self._recent.get(message.id)
        if known is not None:
            message.result.set_result(SendResult(known, is_new=False))
            return
        first = self._by_id.get(message.id)
        if first is not None:
            message.follow(first)
            return
        if self._is_closing or not self._store.is_available or len(self._waiting) >= MAX_WAITING:
            raise Unavailable("Messages cannot be stored just now")
        self._busy_at = self._loop.time()
        message.deadline = self._busy_at + ACK_TIMEOUT
        message.room.pins += 1
        self._by_id[message.id] = message
        self._waiting.append(message)
        self._wake.set()

    def find_recent(self, message_id: str) -> Message | None:
        """A message that was stored or asked for lately, without asking the store."""
        return self._recent.get(message_id)

    def add_recent(self, message: Message) -> None:
        self._recent.put(message)

    @property
    def waiting(self) -> int:
        """How many the writer has not taken."""
        return len(self._waiting)

    @property
    def quiet_seconds(self) -> float:
        """For how long no message has come or been under way."""
        return 0.0 if self._by_id else self._loop.time() - self._busy_at

    async def wait_for_some(self) -> None:
        """Return when there may be work: until `rest`, at once."""
        await self._wake.wait()

    def rest(self) -> None:
        """The writer is done with what it took."""
        if not self._waiting:
            self._wake.clear()

    def take(self, most: int) -> list[PendingMessage]:
        """The next ones whose senders still wait."""
        batch: list[PendingMessage] = []
        while self._waiting and len(batch) < most:
            entry = self._waiting.popleft()
            if entry.result.done():
                self.release(entry)
            else:
                batch.append(entry)
        return batch

    def has(self, entry: PendingMessage) -> bool:
        """Whether it was not let go of."""
        return self._by_id.get(entry.id) is entry

    def answer(self, entry: PendingMessage, sent: SendResult) -> None:
        """Tell its sender, where nobody has given up, and let go of it."""
        if not entry.result.done():
            entry.result.set_result(sent)
        self.release(entry)

    def release(self, entry: PendingMessage) -> None:
        if self.has(entry):
            del self._by_id[entry.id]
            self._busy_at = self._loop.time()
            entry.room.pins -= 1

    async def wait_for_store(self, taken: Iterable[PendingMessage]) -> None:
        """Return when the store is back, or the patience of somebody ends, who is refused then."""
        moment = self._loop.time()
        patience = min((entry.deadline for entry in (*taken, *self._waiting)), default=moment + ACK_TIMEOUT) - moment
        await self._store.wait_available(max(patience, 0.01))
        self._refuse_late()

    async def refuse_late_forever(self) -> None:
        """Nobody waits longer than the patience, also while the store keeps an answer back.

        What is on its way to the store then and arrives after all is delivered like any other.
        """
        while True:
            await asyncio.sleep(LATE_CHECK)
            self._refuse_late()

    async def close(self, pause: float) -> None:
        """Refuse what is new, and return once everything is answered; `pause` seconds between two looks."""
        self._is_closing = True
        while self._by_id:
            if not self._store.is_available:
                # What has been stored of it, the next start finds.
                for entry in self._by_id.values():
                    entry.refuse()
                return
            await asyncio.wait([entry.result for entry in self._by_id.values()], timeout=pause)
            # An outcome that is in doubt is settled by the writer a little later.
            await asyncio.sleep(pause)

    def _refuse_late(self) -> None:
        moment = self._loop.time()
        for entry in self._by_id.values():
            if entry.deadline > moment:
                break
            entry.refuse()
