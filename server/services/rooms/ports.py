"""Protocols of the services that rooms depend on; `server/context.py` wires their implementations."""

from collections.abc import Callable, Collection
from typing import Protocol

from server.models import Message, Notice, User
from server.protocol import UserView
from server.room_state import RoomState


class Attachments(Protocol):
    """Uploads, which may be the image of a room."""

    def is_upload(self, url: str) -> bool: ...

    async def link_room_image(self, user_id: str, url: str, room_id: str) -> None:
        """Use an upload of the user as image of a room. Raises `ValidationFailed` if there is none."""

    async def release(self, url: str, user: str) -> None:
        """A room or message, given by its id, uses this no longer."""


class Limits(Protocol):
    def check_read(self, user_id: str, reads: int = 1) -> None: ...

    def charge_read(self, user_id: str, size: int) -> None: ...

    async def check_new_room(self, user_id: str) -> None: ...


class Log(Protocol):
    def find_recent(self, message_id: str) -> Message | None: ...


class Notices(Protocol):
    async def post(
        self, room: RoomState, by: User, content: str, notice: Notice, check: Callable[[RoomState], None]
    ) -> Message: ...


class People(Protocol):
    async def get_many(self, user_ids: Collection[str]) -> dict[str, User]: ...

    async def get(self, user_id: str) -> User: ...

    async def views(self, users: Collection[User], viewer_id: str) -> list[UserView]: ...


class Presence(Protocol):
    async def online(self, user_ids: Collection[str]) -> set[str]: ...
