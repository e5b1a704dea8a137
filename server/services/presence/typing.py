"""Typing indicators: sent to the others of a room, in a crowd to those who look at it, and ended by a timeout."""

import asyncio

from server.events import TYPING_START, TYPING_STOP, WhoTypes
from server.realtime.connection import Connection
from server.realtime.fan_out import FanOut
from server.realtime.frames import event_frame
from server.room_state import RoomState
from server.services.presence.ports import Rooms
from server.services.presence.watchers import Watchers


class Typing:
    """At most one timer per user and room. The typing user is not notified, on any device."""

    def __init__(self, rooms: Rooms, fan_out: FanOut, watchers: Watchers, *, timeout: float) -> None:
        self._rooms = rooms
        self._fan_out = fan_out
        self._watchers = watchers
        self._timeout = timeout
        self._timers: dict[str, dict[str, tuple[RoomState, asyncio.TimerHandle]]] = {}

    def enter(self, connection: Connection, room_id: str) -> None:
        """The connection looks at the room, and hears who types there even if it is crowded."""
        if connection.is_open:
            self._watchers.add(connection, room_id)

    def exit(self, connection: Connection, room_id: str) -> None:
        self._watchers.discard(connection, room_id)

    def forget(self, connection: Connection) -> None:
        """The connection is closed, and looks at nothing."""
        self._watchers.forget(connection)

    async def start(self, user_id: str, room_id: str) -> None:
        """Notify the others; `timeout` seconds after the last start it ends. Raises `NotFound` if not a member."""
        room = await self._rooms.access_room(user_id, room_id)
        timers = self._timers.setdefault(user_id, {})
        if room_id in timers:
            timers[room_id][1].cancel()
        timer = asyncio.get_running_loop().call_later(self._timeout, self.end, user_id, room_id)
        timers[room_id] = (room, timer)
        self._emit(TYPING_START, room, user_id)

    async def stop(self, user_id: str, room_id: str) -> None:
        """Notify the others, even without a known start: it may be from before a restart. Raises as `start`."""
        room = await self._rooms.access_room(user_id, room_id)
        self._cancel_timer(user_id, room_id)
        self._emit(TYPING_STOP, room, user_id)

    def end(self, user_id: str, room_id: str) -> None:
        """Notify the others if a timer runs."""
        room = self._cancel_timer(user_id, room_id)
        if room is not None:
            self._emit(TYPING_STOP, room, user_id)

    def separate(self, one: str, other: str) -> None:
        """Tell each of two people that the other no longer types."""
        for user_id, told in ((one, other), (other, one)):
            for room, _timer in self._timers.get(user_id, {}).values():
                if told in room.members:
                    self._fan_out.send((told,), event_frame(TYPING_STOP, WhoTypes(room.id, user_id)))

    def end_all(self, user_id: str) -> None:
        """The user's last socket is disconnected."""
        for room_id in list(self._timers.get(user_id, ())):
            self.end(user_id, room_id)

    def _cancel_timer(self, user_id: str, room_id: str) -> RoomState | None:
        """The room, if a timer ran there."""
        timers = self._timers.get(user_id)
        if timers is None or room_id not in timers:
            return None
        room, timer = timers.pop(room_id)
        timer.cancel()
        if not timers:
            del self._timers[user_id]
        return room

    def _emit(self, event: str, room: RoomState, user_id: str) -> None:
        frame = event_frame(event, WhoTypes(room.id, user_id))
        unseen = {user_id, *room.apart_from(user_id)}
        if room.tells_receipts:
            self._fan_out.send([other for other in room.members if other not in unseen], frame)
        else:
            self._watchers.send(room.id, frame, only=room.members, skip=unseen)
