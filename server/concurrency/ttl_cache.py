"""An LRU cache of bounded size whose entries expire."""

import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """Keeps the `size` most recently used values, each for at most `max_age` seconds."""

    def __init__(self, size: int, max_age: float) -> None:
        self._size = size
        self._max_age = max_age
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= time.monotonic():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: K, value: V) -> None:
        """Store a value that is known to be current."""
        self._entries[key] = (time.monotonic() + self._max_age, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def fill(self, key: K, value: V) -> V:
        """Store a value read from a store, unless a newer one was put meanwhile. Returns the cached value."""
        current = self.get(key)
        if current is not None:
            return current
        self.put(key, value)
        return value
