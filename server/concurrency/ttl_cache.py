"""An LRU cache of bounded size whose entries expire."""

import time
from collections.abc import Hashable
from typing import Generic, TypeVar

from server.concurrency.lru_cache import LruCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """Keeps the `size` most recently used values, each for at most `max_age` seconds."""

    def __init__(self, size: int, max_age: float) -> None:
        self._max_age = max_age
        self._entries: LruCache[K, tuple[float, V]] = LruCache(size)

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= time.monotonic():
            self._entries.remove(key)
            return None
        return entry[1]

    def put(self, key: K, value: V) -> None:
        """Store a value that is known to be current."""
        self._entries.put(key, (time.monotonic() + self._max_age, value))

    def fill(self, key: K, value: V) -> V:
        """Store a value read from a store, unless a newer one was put meanwhile. Returns the cached value."""
        current = self.get(key)
        if current is not None:
            return current
        self.put(key, value)
        return value
