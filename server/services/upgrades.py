"""Moves a database that an older server has filled forward to what this one writes, at the start."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from server.storage.mongo.identity import IdentityStore
from server.storage.mongo.users import Users

log = logging.getLogger(__name__)

# Read and rewritten together: a crash costs at most these once more.
PEOPLE_AT_ONCE: Final = 100
PROGRESS_SECONDS: Final = 5.0


class Index(Protocol):
    async def renew(self, user_ids: Sequence[str]) -> None: ...

    async def drop_older(self) -> None: ...


class Upgrades:
    """One step for each version, from the one before it. Every step may be cut off anywhere and is then run again."""

    def __init__(self, identities: IdentityStore, users: Users, index: Index) -> None:
        self._identities = identities
        self._users = users
        self._index = index
        self.has_moved = False
        self._steps: dict[int, Callable[[], Awaitable[None]]] = {2: self._renew_people}

    async def run(self) -> None:
        """To be called before anybody is served. Raises `Unavailable`: the next start goes on from there."""
        before = self._identities.known.version
        self.has_moved = before < max(self._steps)
        for version, step in self._steps.items():
            if version > before:
                log.warning("the database has version %d: moving it forward to %d", version - 1, version)
                await step()
                await self._identities.set_version(version)
                log.warning("the database has version %d now", version)

    async def _renew_people(self) -> None:
        """People are found by the terms of today, and known by emails that are unlike, whenever they registered."""
        user_ids = await self._users.find_ids()
        told = time.monotonic()
        for start in range(0, len(user_ids), PEOPLE_AT_ONCE):
            some = user_ids[start : start + PEOPLE_AT_ONCE]
            await self._users.fold_emails(some)
            await self._index.renew(some)
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                log.warning("search index: %d of %d people", min(start + PEOPLE_AT_ONCE, len(user_ids)), len(user_ids))
        log.warning("search index: %d of %d people", len(user_ids), len(user_ids))
        await self._index.drop_older()
