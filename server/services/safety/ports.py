"""Protocols of the services that safety depends on; `server/context.py` wires their implementations."""

from collections.abc import Collection
from typing import Protocol

from server.models import Message, User
from server.protocol import UserView
from server.room_state import RoomState


class People(Protocol):
    async def get(self, user_id: str) -> User: ...

    async def get_many(self, user_ids: Collection[str]) -> dict[str, User]: ...

    async def views(self, users: Collection[User], viewer_id: str) -> list[UserView]: ...


class Presence(Protocol):
    async def separate(self, one: str, other: str) -> None:
        """Tell each of the two that the other is offline and no longer types, before they are apart."""

    async def unite(self, one: str, other: str) -> None:
        """Tell each of the two whether the other is online, now that they are apart no more."""


class MessageAccess(Protocol):
    async def access_message(self, user_id: str, message_id: str, room_id: str = "") -> tuple[RoomState, Message]: ...
