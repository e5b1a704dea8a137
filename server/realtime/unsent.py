"""Bytes that wait for clients to read them, counted for each user and in all; of too many, the slowest is cut first."""

import time
from collections import OrderedDict
from typing import Final, Protocol

# A client that has read nothing for so long is slow. One that reads is cut only where there are far too many bytes.
GRACE: Final = 1.0
FAR_TOO_MANY: Final = 1.5


class Reader(Protocol):
    """A connection with bytes that its client has not taken yet."""

    def cut(self) -> None:
        """End it at once, without a word; what waits is dropped."""


class Waiting:
    """What waits for one reader, and when that was last seen to read."""

    __slots__ = ("since", "size", "user_id")

    def __init__(self, user_id: str, since: float) -> None:
        self.user_id = user_id
        self.size = 0
        self.since = since


class Queue:
    """Readers of one user, or of all, the slowest first."""

    __slots__ = ("readers", "size")

    def __init__(self) -> None:
        self.readers: OrderedDict[Reader, Waiting] = OrderedDict()
        self.size = 0


class Unsent:
    """Counts only what the kernel has not taken: whoever reads what they are sent is not in here."""

    def __init__(self, *, per_user: int, in_all: int) -> None:
        self._per_user = per_user
        self._in_all = in_all
        self._all = Queue()
        self._by_user: dict[str, Queue] = {}

    @property
    def size(self) -> int:
        return self._all.size

    def note(self, reader: Reader, user_id: str, size: int) -> None:
        """So many bytes wait for `reader` now. It, or another one, is cut where there are too many by that."""
        waiting = self._all.readers.get(reader)
        if size == 0:
            if waiting is not None:
                self._forget(reader, waiting)
            return
        moment = time.monotonic()
        if waiting is not None and waiting.user_id != user_id:
            # Logged in since.
            self._forget(reader, waiting)
            waiting = None
        if waiting is None:
            waiting = Waiting(user_id, moment)
            for queue in self._all, self._by_user.setdefault(user_id, Queue()):
                queue.readers[reader] = waiting
        elif size < waiting.size:
            waiting.since = moment
            for queue in self._all, self._by_user[user_id]:
                queue.readers.move_to_end(reader)
        grown, waiting.size = size - waiting.size, size
        of_user = self._by_user[user_id]
        self._all.size += grown
        of_user.size += grown
        if of_user.size > self._per_user:
            self._relieve(of_user, self._per_user, moment)
        if self._all.size > self._in_all:
            self._relieve(self._all, self._in_all, moment)

    def _relieve(self, queue: Queue, most: int, moment: float) -> None:
        while queue.size > most:
            reader, waiting = next(iter(queue.readers.items()))
            if moment - waiting.since < GRACE and queue.size <= FAR_TOO_MANY * most:
                return
            self._forget(reader, waiting)
            reader.cut()

    def _forget(self, reader: Reader, waiting: Waiting) -> None:
        of_user = self._by_user[waiting.user_id]
        for queue in self._all, of_user:
            del queue.readers[reader]
            queue.size -= waiting.size
        if not of_user.readers:
            del self._by_user[waiting.user_id]
