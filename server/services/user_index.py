"""Keeps the search index true to the profiles, also across crashes."""

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from server import search_text
from server.batching import Batcher
from server.errors import ChatError
from server.models import User
from server.storage.search_terms import SEPARATOR, IndexChange, SearchTerms
from server.storage.users import Users

log = logging.getLogger(__name__)

# Every prefix up to this length is counted.
ALWAYS_COUNTED: Final = 3
# A longer prefix is counted once its parent counts this many people: so many keys may have to be read for a count.
POPULAR: Final = 16
# Popular prefixes that are remembered, to spare the question.
REMEMBERED: Final = 100_000
SETTLED_AT_ONCE: Final = 100
# Changes that are carried out together: people who come at the same time share most of the prefixes that grow.
MAX_BATCH: Final = 16


class UserIndex:
    """Plans a change of the index, which is stored with the change of the user, and then carries it out.

    A change that was planned but not carried out (a crash, a lost connection) is found by `settle_all`.
    """

    def __init__(self, users: Users, search_terms: SearchTerms) -> None:
        self._users = users
        self._search_terms = search_terms
        self._popular: set[str] = set()
        self._batcher: Batcher[IndexChange] = Batcher(self._carry_out, max_batch=MAX_BATCH)

    async def plan(self, user: User, indexed: Mapping[str, str]) -> IndexChange:
        """What makes the index hold what `user` can be found by, where it holds `indexed` now. Nothing is written."""
        terms = search_text.terms(user) if user.is_active else set()
        wanted = await self._stops([f"{term}{SEPARATOR}{user.id}" for term in terms])
        counts = Counter(_counted(wanted.values()))
        counts.subtract(_counted(indexed.values()))
        return IndexChange(
            id=uuid.uuid4().hex[:16],
            add={key: stop for key, stop in wanted.items() if indexed.get(key) != stop},
            drop=[key for key in indexed if key not in wanted],
            counts={prefix: number for prefix, number in counts.items() if number},
            indexed=wanted,
        )

    async def settle(self, change: IndexChange) -> None:
        """Carry out a change that is stored with its user. Raises `Unavailable`."""
        if change.to_document() is not None:
            await self._batcher.add(change)

    async def settle_soon(self, change: IndexChange) -> None:
        """As `settle`, but a failure is left to `settle_all`: the change of the user itself stands already."""
        try:
            await self.settle(change)
        except ChatError as error:
            log.warning("The search index of one user will be mended later: %s", error.detail)

    async def settle_all(self) -> int:
        """Carry out everything that was left behind; at the start and now and then. Returns how many users."""
        mended = 0
        while records := await self._users.find_pending(SETTLED_AT_ONCE):
            await asyncio.gather(*(self.settle(record.pending) for record in records if record.pending is not None))
            mended += len(records)
        return mended

    async def _carry_out(self, changes: Sequence[IndexChange]) -> None:
        once = {change.id: change for change in changes}
        await self._search_terms.apply(list(once.values()))
        await self._users.finish(list(once))

    async def _stops(self, keys: list[str]) -> dict[str, str]:
        """Each key with its longest prefix that is to be counted."""
        stops = {key: key[:ALWAYS_COUNTED] for key in keys}
        frontier = stops
        while frontier:
            unknown = set(frontier.values()) - self._popular
            if unknown:
                self._remember(await self._search_terms.popular(unknown, POPULAR))
            frontier = {key: key[: len(stop) + 1] for key, stop in frontier.items() if stop in self._popular}
            stops.update(frontier)
        return stops

    def _remember(self, popular: set[str]) -> None:
        if len(self._popular) + len(popular) > REMEMBERED:
            self._popular.clear()
        self._popular |= popular


def _counted(stops: Iterable[str]) -> set[str]:
    """The prefixes under which a user with these stops is counted, each once."""
    return {stop[:length] for stop in stops for length in range(1, len(stop) + 1)}
