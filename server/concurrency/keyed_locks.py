"""One lock for each key: work on one key waits its turn, work on others does not."""

import asyncio
from weakref import WeakValueDictionary


class KeyedLocks:
    """Keeps a lock as long as somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, key: str) -> asyncio.Lock:
        """The lock of this key, to be used at once: `async with locks.of(key):`."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock
