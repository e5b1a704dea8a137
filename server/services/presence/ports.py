"""Protocols of the services that presence depends on; `server/context.py` wires their implementations."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from server.models import User
from server.room_state import RoomState


class People(Protocol):
    async def get_many(self, user_ids: Collection[str]) -> dict[str, User]: ...

    async def touch_last_seen(self, seen: Mapping[str, datetime]) -> None: ...


class Rooms(Protocol):
    async def peers(self, user_id: str) -> set[str]: ...

    async def access_room(self, user_id: str, room_id: str) -> RoomState: ...
