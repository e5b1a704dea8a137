"""The way into the room log: each message id once, in the order of asking, and an answer in time for everybody."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

from server.drafts import Draft, Entry, Sent, derive_message_id, follow
from server.errors import Unavailable
from server.models import Message
from server.remembered import RememberedMessages

# A sender is answered within five seconds also when the store is away; this leaves time for the way back.
PATIENCE: Final = 4.5
LATE_CHECK: Final = 0.2
MAX_WAITING: Final = 20_000
# Repeats usually come seconds after the first; later ones are judged by the store.
MAX_REMEMBERED: Final = 20_000
MAX_REMEMBERED_BYTES: Final = 16 * 1024 * 1024


class Store(Protocol):
    """Whether the database answers, and waiting until it does."""

    @property
    def is_available(self) -> bool: ...

    async def wait_available(self, timeout: float) -> bool: ...


class Intake:
    """Entries that wait for the writer, and those that it has taken and not let go of.

    An entry holds its room from `append` to `release`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[Entry] = deque()
        self._by_id: dict[str, Entry] = {}
        self._remembered = RememberedMessages(max_messages=MAX_REMEMBERED, max_bytes=MAX_REMEMBERED_BYTES)
        self._is_closing = False
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._busy_at = 0.0

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
        self._busy_at = self._loop.time()
        entry = Entry(draft, message_id, result, self._busy_at + PATIENCE)
        draft.room.holds += 1
        self._by_id[message_id] = entry
        self._waiting.append(entry)
        self._wake.set()
        return result

    def remembered(self, message_id: str) -> Message | None:
        """A message that was stored or asked for lately, without asking the store."""
        return self._remembered.get(message_id)

    def remember(self, message: Message) -> None:
        self._remembered.put(message)

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

    def take(self, most: int) -> list[Entry]:
        """The next ones whose senders still wait."""
        batch: list[Entry] = []
        while self._waiting and len(batch) < most:
            entry = self._waiting.popleft()
            if entry.result.done():
                self.release(entry)
            else:
                batch.append(entry)
        return batch

    def has(self, entry: Entry) -> bool:
        """Whether it was not let go of."""
        return self._by_id.get(entry.id) is entry

    def answer(self, entry: Entry, sent: Sent) -> None:
        """Tell its sender, where nobody has given up, and let go of it."""
        if not entry.result.done():
            entry.result.set_result(sent)
        self.release(entry)

    def release(self, entry: Entry) -> None:
        if self.has(entry):
            del self._by_id[entry.id]
            self._busy_at = self._loop.time()
            entry.draft.room.holds -= 1

    async def wait_for_store(self, taken: Iterable[Entry]) -> None:
        """Return when the store is back, or the patience of somebody ends, who is refused then."""
        moment = self._loop.time()
        patience = min((entry.deadline for entry in (*taken, *self._waiting)), default=moment + PATIENCE) - moment
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
                    refuse(entry)
                return
            await asyncio.wait([entry.result for entry in self._by_id.values()], timeout=pause)
            # An outcome that is in doubt is settled by the writer a little later.
            await asyncio.sleep(pause)

    def _refuse_late(self) -> None:
        moment = self._loop.time()
        for entry in self._by_id.values():
            if entry.deadline > moment:
                break
            refuse(entry)


def refuse(entry: Entry) -> None:
    """Tell its sender that it is not stored, as far as one knows."""
    if not entry.result.done():
        entry.result.set_exception(Unavailable("Messages cannot be stored just now"))
        # Nobody may be waiting any more.
        entry.result.exception()
