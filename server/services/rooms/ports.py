"""Protocols of the services that rooms depend on; `server/context.py` wires their implementations."""

from collections.abc import Collection
from typing import Protocol

from server.models import Message, User


class Limits(Protocol):
    def check_read(self, user_id: str, reads: int = 1) -> None: ...

    def charge_read(self, user_id: str, size: int) -> None: ...

    async def check_new_room(self, user_id: str) -> None: ...


class Log(Protocol):
    def find_recent(self, message_id: str) -> Message | None: ...


class People(Protocol):
    async def get_many(self, user_ids: Collection[str]) -> dict[str, User]: ...

    async def get(self, user_id: str) -> User: ...


class Presence(Protocol):
    async def online(self, user_ids: Collection[str]) -> set[str]: ...
