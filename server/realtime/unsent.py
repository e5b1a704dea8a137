"""Counts unsent bytes per user and in total; above a limit, the slowest reader is cut first."""

import time
from collections import OrderedDict
from typing import Final, Protocol

# A client that has read nothing for `GRACE` seconds is slow. Others are cut only above this multiple of the limit.
GRACE: Final = 1.0
HARD_LIMIT_FACTOR: Final = 1.5


class Reader(Protocol):
    """A connection with unsent bytes."""

    def cut(self) -> None:
        """Close it at once and drop unsent bytes."""


class Waiting:
    """The unsent bytes of one reader, and since when it has not read."""

    __slots__ = ("since", "size", "user_id")

    def __init__(self, user_id: str, since: float) -> None:
        self.user_id = user_id
        self.size = 0
        self.since = since


class Queue:
    """Readers of one user or of all users, the slowest first."""

    __slots__ = ("readers", "size")

    def __init__(self) -> None:
        self.readers: OrderedDict[Reader, Waiting] = OrderedDict()
        self.size = 0


class Unsent:
    """Only bytes that the kernel has not accepted count, so clients that keep up have no entry."""

    def __init__(self, *, per_user: int, total: int) -> None:
        self._per_user = per_user
        self._total = total
        self._all = Queue()
        self._by_user: dict[str, Queue] = {}

    @property
    def size(self) -> int:
        return self._all.size

    def note(self, reader: Reader, user_id: str, size: int) -> None:
        """Note that `size` bytes are unsent to `reader` now. Cuts readers while a limit is exceeded."""
        waiting = self._all.readers.get(reader)
        if size == 0:
            if waiting is not None:
                self._forget(reader, waiting)
            return
        moment = time.monotonic()
        if waiting is not None and waiting.user_id != user_id:
            # The client has logged in since.
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
            self._cut_slowest(of_user, self._per_user, moment)
        if self._all.size > self._total:
            self._cut_slowest(self._all, self._total, moment)

    def _cut_slowest(self, queue: Queue, limit: int, moment: float) -> None:
        while queue.size > limit:
            reader, waiting = next(iter(queue.readers.items()))
            if moment - waiting.since < GRACE and queue.size <= HARD_LIMIT_FACTOR * limit:
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
