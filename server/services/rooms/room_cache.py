"""The rooms in memory: those used last, up to a number, and never two objects of one room."""

import itertools
from collections import OrderedDict
from collections.abc import Iterable
from weakref import WeakValueDictionary

from server.room_state import RoomState


class RoomCache:
    """A room that has to leave while somebody still works with its object is found again by that object.

    Whoever waits for a store in between goes on with the one object of its room, and what is being saved is not loaded
    anew from what was stored before.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, RoomState] = OrderedDict()
        self._left: WeakValueDictionary[str, RoomState] = WeakValueDictionary()

    def find(self, room_id: str) -> RoomState | None:
        """The room if it is in memory, as the one used last."""
        state = self._kept.get(room_id)
        if state is not None:
            self._kept.move_to_end(room_id)
            return state
        state = self._left.pop(room_id, None)
        if state is not None:
            self._kept[room_id] = state
        return state

    def put(self, states: Iterable[RoomState]) -> None:
        """Keep these rooms, of which none was found, and let others leave for them."""
        self._kept.update((state.id, state) for state in states)
        excess = len(self._kept) - self._most
        if excess <= 0:
            return
        idle = (state for state in self._kept.values() if not state.is_changed and state.pins == 0)
        for state in list(itertools.islice(idle, excess)):
            self._left[state.id] = self._kept.pop(state.id)

    def changed(self) -> list[RoomState]:
        """Those with something to save, also if they have left and changed since."""
        rooms = itertools.chain(self._kept.values(), list(self._left.values()))
        return [state for state in rooms if state.is_changed]
