"""The LRU cache of rooms, with never two objects of one room."""

import itertools
from collections import OrderedDict
from collections.abc import Iterable
from weakref import WeakValueDictionary

from server.room_state import RoomState


class RoomCache:
    """Holds at most `limit` rooms, apart from pinned and changed ones.

    An evicted room is found again while its object is referenced. So callers that wait for a store keep working on the
    room's only object, and a room that is being saved is not reloaded from older data.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._cached: OrderedDict[str, RoomState] = OrderedDict()
        self._evicted: WeakValueDictionary[str, RoomState] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._cached)

    def find(self, room_id: str) -> RoomState | None:
        """The room if it is in memory. It becomes the most recently used."""
        state = self._cached.get(room_id)
        if state is not None:
            self._cached.move_to_end(room_id)
            return state
        state = self._evicted.pop(room_id, None)
        if state is not None:
            self._cached[room_id] = state
        return state

    def put(self, states: Iterable[RoomState]) -> None:
        """Add rooms that `find` does not find, and evict others."""
        self._cached.update((state.id, state) for state in states)
        excess = len(self._cached) - self._limit
        if excess <= 0:
            return
        idle = (state for state in self._cached.values() if not state.is_changed and state.pins == 0)
        for state in list(itertools.islice(idle, excess)):
            self._evicted[state.id] = self._cached.pop(state.id)

    def remove(self, room_id: str) -> None:
        """Forget a room that is deleted."""
        self._cached.pop(room_id, None)
        self._evicted.pop(room_id, None)

    def changed(self) -> list[RoomState]:
        """Rooms with unsaved changes, including those that changed after they were evicted."""
        rooms = itertools.chain(self._cached.values(), list(self._evicted.values()))
        return [state for state in rooms if state.is_changed]
