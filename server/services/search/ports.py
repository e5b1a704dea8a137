"""What search needs of other services. Each is implemented by one of them, and wired in `server/context.py`."""

from collections.abc import Collection, Iterable
from typing import Protocol

from server.models import User
from server.protocol import UserView


class People(Protocol):
    async def get_many(self, user_ids: Iterable[str]) -> dict[str, User]: ...
    async def views(self, users: Collection[User], viewer_id: str) -> list[UserView]: ...


class Limits(Protocol):
    def check_search(self, user_id: str) -> None: ...


class Contact(Protocol):
    @property
    def is_public(self) -> bool: ...
    async def find_shown(self, viewer_id: str) -> set[str]: ...
