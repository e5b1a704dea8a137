"""Who is typing where: told to the others in the room, and taken back by itself."""

import asyncio

from server.protocol import TYPING_START, TYPING_STOP
from server.realtime.hub import Hub
from server.room_state import RoomState
from server.services.presence.ports import Rooms


class Typing:
    """At most one running clock per user and room. Whoever types is never told of it, on no device."""

    def __init__(self, rooms: Rooms, sockets: Hub, *, timeout: float) -> None:
        self._rooms = rooms
        self._sockets = sockets
        self._timeout = timeout
        self._clocks: dict[str, dict[str, tuple[RoomState, asyncio.TimerHandle]]] = {}

    async def start(self, user_id: str, room_id: str) -> None:
        """Tell the others, now and until `timeout` after the last start. Raises `NotFound` for a room of others."""
        room = await self._rooms.access_room(user_id, room_id)
        clocks = self._clocks.setdefault(user_id, {})
        if room_id in clocks:
            clocks[room_id][1].cancel()
        clock = asyncio.get_running_loop().call_later(self._timeout, self.end, user_id, room_id)
        clocks[room_id] = (room, clock)
        self._tell(TYPING_START, room, user_id)

    async def stop(self, user_id: str, room_id: str) -> None:
        """Tell the others, also of a start that only a server before this one knew of. Raises `NotFound` as `start`."""
        room = await self._rooms.access_room(user_id, room_id)
        self._stop_clock(user_id, room_id)
        self._tell(TYPING_STOP, room, user_id)

    def end(self, user_id: str, room_id: str) -> None:
        """Tell the others if they were told of a start."""
        room = self._stop_clock(user_id, room_id)
        if room is not None:
            self._tell(TYPING_STOP, room, user_id)

    def end_all(self, user_id: str) -> None:
        """The user's last socket went."""
        for room_id in list(self._clocks.get(user_id, ())):
            self.end(user_id, room_id)

    def _stop_clock(self, user_id: str, room_id: str) -> RoomState | None:
        """The room, if a clock ran there."""
        clocks = self._clocks.get(user_id)
        if clocks is None or room_id not in clocks:
            return None
        room, clock = clocks.pop(room_id)
        clock.cancel()
        if not clocks:
            del self._clocks[user_id]
        return room

    def _tell(self, event: str, room: RoomState, user_id: str) -> None:
        self._sockets.emit(room.others(user_id), event, {"roomId": room.id, "userId": user_id})
