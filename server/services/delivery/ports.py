"""Interfaces that delivery needs from other services, wired in `server/context.py`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from server.models import Message, Quote, User
from server.room_state import RoomState
from server.services.delivery.entries import Queued


class People(Protocol):
    async def get_many(self, user_ids: Collection[str]) -> Mapping[str, User]: ...


class Quotes(Protocol):
    async def find(self, messages: Collection[Message]) -> Mapping[str, Quote]: ...


class Receipts(Protocol):
    async def mark_all_delivered(self, user_id: str, last: Collection[Queued], *, skip: Any = None) -> None: ...


class RoomLoader(Protocol):
    async def pin_many(self, room_ids: Sequence[str]) -> list[RoomState]: ...


class RoomSaver(Protocol):
    async def save_all(self) -> None: ...


class Rooms(Protocol):
    async def access_many(self, user_id: str, room_ids: Collection[str]) -> Mapping[str, RoomState]: ...
