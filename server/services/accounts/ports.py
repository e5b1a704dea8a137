"""What accounts need of other services. Each is implemented by one of them, and wired in `server/context.py`."""

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
    """What accounts need of the rate limits."""

    async def check_registration(self, network: str) -> None: ...

    def login(
        self, network: str, email: str, is_known: Callable[[], Awaitable[bool]]
    ) -> AbstractAsyncContextManager[None]: ...

    def check_profile_change(self, user_id: str) -> None: ...


class ProfileImages(Protocol):
    """What a profile picture may be beside an absolute http(s) URL."""

    async def link_profile(self, user_id: str, url: str) -> None:
        """Use one's own upload. Raises `ValidationFailed` where it is not there or not one's own."""

    async def release_profile(self, user_id: str, url: str) -> None:
        """It is shown no longer."""


class Presence(Protocol):
    async def online(self, user_ids: Collection[str]) -> set[str]:
        """Those of the users who are online."""
        ...
