"""The list of rooms that anybody may join, by name."""

from server.lookalikes import fold
from server.protocol import OpenRoomPage
from server.requests import OpenRoomsQuery
from server.services.rooms.cursor import read_cursor, write_cursor
from server.services.rooms.room_loading import RoomLoader
from server.storage.mongo.rooms import OpenPlace, RoomStore
from server.views import view_open_room


class OpenRooms:
    def __init__(self, loader: RoomLoader, store: RoomStore) -> None:
        self._loader = loader
        self._store = store

    async def list_open_rooms(self, user_id: str, query: OpenRoomsQuery) -> OpenRoomPage:
        """One page of those whose names contain `q`. Raises `ValidationFailed` for a cursor of another list."""
        after = None if query.cursor is None else read_cursor(query.cursor, OpenPlace)
        places = await self._store.find_open(fold(query.q.strip()), after, query.limit + 1)
        page = places[: query.limit]
        rooms = {room.id: room for room in await self._loader.load_many([place.room_id for place in page])}
        return OpenRoomPage(
            rooms=[
                view_open_room(rooms[place.room_id], user_id)
                for place in page
                # Another may have closed it meanwhile.
                if place.room_id in rooms and rooms[place.room_id].details.visibility == "OPEN"
            ],
            next_cursor=write_cursor(page[-1]) if len(places) > len(page) else None,
        )
