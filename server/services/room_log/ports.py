"""Interfaces that the room log needs from other services, wired in `server/context.py`."""

from collections.abc import Collection, Sequence
from typing import Protocol

from server.models import Message, User
from server.room_state import RoomState


class Attachments(Protocol):
    """Uploads: attachment targets other than absolute http(s) URLs."""

    def is_upload(self, url: str) -> bool: ...

    async def link(self, user_id: str, url: str, peers: Collection[str]) -> None:
        """Use an upload in a message. Raises `ValidationFailed` if neither the user owns it nor a peer has sent it."""


class Limits(Protocol):
    def check_message(self, user_id: str) -> None: ...

    def check_length(self, user_id: str, text: str) -> None: ...


class People(Protocol):
    async def get_many(self, user_ids: Collection[str]) -> dict[str, User]: ...

    def cached(self, user_id: str) -> User | None: ...

    async def get(self, user_id: str) -> User: ...


class Rooms(Protocol):
    async def pin_many(self, room_ids: Sequence[str]) -> list[RoomState]: ...

    async def read_tail(self, state: RoomState) -> Sequence[Message]: ...

    def access_cached(self, user_id: str, room_id: str) -> RoomState | None: ...

    async def access_room(self, user_id: str, room_id: str) -> RoomState: ...

    async def peers(self, user_id: str) -> set[str]: ...
