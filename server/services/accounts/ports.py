"""The interfaces of other services that accounts use. `server/context.py` wires the implementations."""

from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from server.models import User
from server.storage.mongo.search_terms import IndexChange


class Index(Protocol):
    async def plan(self, user: User, indexed: dict[str, str]) -> IndexChange: ...

    async def settle(self, change: IndexChange) -> None: ...

    async def settle_soon(self, change: IndexChange) -> None: ...


class Limits(Protocol):
    """The rate limits of accounts."""

    async def check_registration(self, network: str) -> None: ...

    def login(
        self, network: str, email: str, is_known: Callable[[], Awaitable[bool]]
    ) -> AbstractAsyncContextManager[None]: ...

    def check_profile_change(self, user_id: str) -> None: ...


class ProfileImages(Protocol):
    """Uploads that are used as profile images."""

    async def link_profile(self, user_id: str, url: str) -> None:
        """Use an upload of the user. Raises `ValidationFailed` if it does not exist or is another user's."""

    async def release_profile(self, user_id: str, url: str) -> None:
        """The profile shows it no longer."""


class Presence(Protocol):
    async def online(self, user_ids: Collection[str]) -> set[str]:
        """Those of the users who are online."""
        ...
