"""The list of rooms that anybody may join, by name."""

from server.lookalikes import fold
from server.protocol import OpenRoomPage, OpenRoomView, wire_time
from server.requests import OpenRoomsQuery
from server.room_state import RoomState
from server.services.rooms.cursor import read_cursor, write_cursor
from server.services.rooms.rooms import Rooms
from server.storage.mongo.rooms import OpenPlace, RoomStore


class OpenRooms:
    def __init__(self, rooms: Rooms, store: RoomStore) -> None:
        self._rooms = rooms
        self._store = store

    async def list_open_rooms(self, user_id: str, query: OpenRoomsQuery) -> OpenRoomPage:
        """One page of those whose names contain `q`. Raises `ValidationFailed` for a cursor of another list."""
        after = None if query.cursor is None else read_cursor(query.cursor, OpenPlace)
        places = await self._store.find_open(fold(query.q.strip()), after, query.limit + 1)
        page = places[: query.limit]
        rooms = {room.id: room for room in await self._rooms.load_many([place.room_id for place in page])}
        return OpenRoomPage(
            rooms=[
                _view(rooms[place.room_id], user_id)
                for place in page
                # Another may have closed it meanwhile.
                if place.room_id in rooms and rooms[place.room_id].details.visibility == "OPEN"
            ],
            next_cursor=write_cursor(page[-1]) if len(places) > len(page) else None,
        )


def _view(room: RoomState, user_id: str) -> OpenRoomView:
    details = room.details
    return OpenRoomView(
        id=room.id,
        type=room.type,
        name=details.name,
        description=details.description,
        image=details.image,
        visibility=details.visibility,
        history=details.history,
        member_count=len(room.members),
        created_by=room.created_by,
        created_at=wire_time(room.created_at),
        is_member=user_id in room.members,
    )
