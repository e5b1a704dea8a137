"""Write queue of the room log: deduplicates message ids, keeps call order, and enforces the ack timeout."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

from server.errors import Unavailable
from server.models import Message
from server.services.room_log.pending import PendingMessage, SendResult
from server.services.room_log.recent_messages import RecentMessages
from server.storage.mongo.database import Database

# Seconds. Senders get an answer within five seconds even if the store is unavailable; the rest is for the network.
ACK_TIMEOUT: Final = 4.5
TIMEOUT_CHECK_INTERVAL: Final = 0.2
MAX_WAITING: Final = 20_000
# Repeats usually come within seconds; the store detects later ones.
MAX_RECENT: Final = 20_000
MAX_RECENT_BYTES: Final = 16 * 1024 * 1024


class WriteQueue:
    """Messages that wait for the writer, and those that it has taken and not released.

    A message pins its room from `append` to `release`.
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
        """Queue a message in call order. Its `result` completes once it is stored. Raises `Unavailable`."""
        known = self._recent.get(message.id)
        if known is not None:
            message.resolve(SendResult(known, is_new=False))
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
        """Look in the recent-message cache only."""
        return self._recent.get(message_id)

    def add_recent(self, message: Message) -> None:
        self._recent.put(message)

    def replace_recent(self, message: Message) -> None:
        """A message has changed."""
        self._recent.replace(message)

    @property
    def waiting(self) -> int:
        """Number of messages that the writer has not taken."""
        return len(self._waiting)

    @property
    def quiet_seconds(self) -> float:
        """Seconds since a message was last queued or released; 0 while one is in flight."""
        return 0.0 if self._by_id else self._loop.time() - self._busy_at

    async def wait_for_work(self) -> None:
        """Return when there may be work. Returns at once until `mark_idle`."""
        await self._wake.wait()

    def mark_idle(self) -> None:
        """The writer has finished what it took."""
        if not self._waiting:
            self._wake.clear()

    def take(self, most: int) -> list[PendingMessage]:
        """The next messages, at most `most`, that are not refused. Refused ones are released.

        A notice is the last: what comes after it is checked against the room as it has changed it.
        """
        batch: list[PendingMessage] = []
        while self._waiting and len(batch) < most:
            pending = self._waiting.popleft()
            if pending.result.done():
                self.release(pending)
            else:
                batch.append(pending)
                if pending.notice is not None:
                    break
        return batch

    def owns(self, pending: PendingMessage) -> bool:
        """Whether it is queued or taken, and not released."""
        return self._by_id.get(pending.id) is pending

    def answer(self, pending: PendingMessage, sent: SendResult) -> None:
        """Set the result if it is not done, and release the message."""
        pending.resolve(sent)
        self.release(pending)

    def release(self, pending: PendingMessage) -> None:
        if self.owns(pending):
            del self._by_id[pending.id]
            self._busy_at = self._loop.time()
            pending.room.pins -= 1

    async def wait_for_store(self, taken: Iterable[PendingMessage]) -> None:
        """Return when the store is available or the first ack timeout ends. Expired messages are refused."""
        moment = self._loop.time()
        deadline = min((pending.deadline for pending in (*taken, *self._waiting)), default=moment + ACK_TIMEOUT)
        await self._store.wait_available(max(deadline - moment, 0.01))
        self._refuse_expired()

    async def refuse_expired_forever(self) -> None:
        """Enforce the ack timeout even if the store does not answer.

        A refused message that is stored after all is delivered like any other.
        """
        while True:
            await asyncio.sleep(TIMEOUT_CHECK_INTERVAL)
            self._refuse_expired()

    async def close(self, pause: float) -> None:
        """Refuse new messages, and return once all are answered. Checks every `pause` seconds."""
        self._is_closing = True
        while self._by_id:
            if not self._store.is_available:
                # Recovery at the next start finds those that were stored.
                for pending in self._by_id.values():
                    pending.refuse()
                return
            await asyncio.wait([pending.result for pending in self._by_id.values()], timeout=pause)
            # The writer resolves unknown outcomes a little later.
            await asyncio.sleep(pause)

    def _refuse_expired(self) -> None:
        moment = self._loop.time()
        for pending in self._by_id.values():
            if pending.deadline > moment:
                break
            pending.refuse()
