"""Finds people by the beginning of what they are called, at about the same cost for ten or for a million of them."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from typing import Final, Protocol

from server import search_text
from server.errors import ValidationFailed
from server.models import User
from server.protocol import SearchQuery, SearchResult, UserView
from server.storage.search_terms import END, SEPARATOR, SearchTerms

QUERY_LENGTH: Final = 100
MAX_RESULTS: Final = 100
# No key stops above this length (see `UserIndex`): shorter prefixes are counted for everybody.
SHORTEST_STOP: Final = 3
# Up to so many people are read at once; where more are counted, the tree of counts is followed downwards.
READ_AT_ONCE: Final = 100


class People(Protocol):
    async def get(self, user_id: str) -> User: ...
    async def get_many(self, user_ids: Iterable[str]) -> dict[str, User]: ...
    async def views(self, users: Collection[User]) -> list[UserView]: ...


class Limits(Protocol):
    def check_search(self, user_id: str) -> None: ...


class Found:
    """Everybody whom one prefix finds: how many, and their keys in order, as far as they are asked for."""

    def __init__(self, prefix: str, counted: int, stopped: list[str]) -> None:
        self.prefix = prefix
        self.counted = counted
        # Keys that stopped above the prefix; none of their owners is in its count.
        self.stopped = stopped
        self.total = counted + len({_owner(key) for key in stopped})


class Search:
    """The order of the answers is that of the terms by which people were found, and then of their ids."""

    def __init__(self, search_terms: SearchTerms, people: People, limits: Limits) -> None:
        self._search_terms = search_terms
        self._people = people
        self._limits = limits

    async def search(self, user_id: str, query: SearchQuery) -> SearchResult:
        """Active users whom `query.q` finds, without the one who asks. Raises `ValidationFailed`, `RateLimited`."""
        _check(query)
        self._limits.check_search(user_id)
        prefixes = search_text.queries(query.q)
        asker, found = await asyncio.gather(
            self._people.get(user_id), asyncio.gather(*(self._find(prefix) for prefix in prefixes))
        )
        users = await self._take(found, asker, query.limit)
        total = sum(one.total for one in found) - await self._found_twice(found)
        if any(search_text.matches(asker, prefix) for prefix in prefixes):
            total -= 1
        # Counts are a moment behind the keys while somebody registers or changes their name.
        return SearchResult(users=await self._people.views(users), total=max(total, len(users)))

    async def _find(self, prefix: str) -> Found:
        stops = [prefix[:length] for length in range(SHORTEST_STOP, len(prefix))]
        counted, stopped = await asyncio.gather(
            self._search_terms.count(prefix), self._search_terms.stopped(stops, prefix)
        )
        return Found(prefix, counted, stopped)

    async def _take(self, found: Iterable[Found], asker: User, limit: int) -> list[User]:
        """The first `limit` users, each once."""
        taken: dict[str, User] = {}
        seen = {asker.id}
        for one in found:
            async for keys in self._keys(one, limit):
                fresh = [owner for owner in dict.fromkeys(map(_owner, keys)) if owner not in seen]
                seen.update(fresh)
                while fresh and len(taken) < limit:
                    some, fresh = fresh[: limit - len(taken)], fresh[limit - len(taken) :]
                    users = await self._people.get_many(some)
                    taken.update((owner, users[owner]) for owner in some if owner in users and users[owner].is_active)
                if len(taken) == limit:
                    return list(taken.values())
        return list(taken.values())

    async def _found_twice(self, found: list[Found]) -> int:
        """How many people both the text and the digits of a query find; few queries have people for both."""
        if len(found) < 2 or not all(one.total for one in found):
            return 0
        text, digits = found
        owners: set[str] = set()
        async for keys in self._keys(text, READ_AT_ONCE):
            owners.update(map(_owner, keys))
            if len(owners) > READ_AT_ONCE:
                break
        users = await self._people.get_many(owners)
        return sum(user.is_active and search_text.matches(user, digits.prefix) for user in users.values())

    async def _keys(self, found: Found, batch: int) -> AsyncIterator[list[str]]:
        """The keys behind the prefix in order, in lists that each cost one bounded read."""
        if found.counted == 0:
            yield found.stopped
            return
        if found.total <= READ_AT_ONCE:
            yield await self._search_terms.between(found.prefix, found.prefix + END)
            return
        async for keys in self._descend(found.prefix, found.stopped, batch):
            yield keys

    async def _descend(self, prefix: str, stopped: list[str], batch: int) -> AsyncIterator[list[str]]:
        """As `_keys` for a popular prefix: `stopped` are the keys under it that stopped above it."""
        stops = [prefix] if len(prefix) >= SHORTEST_STOP else []
        children, here = await asyncio.gather(
            self._search_terms.children(prefix), self._search_terms.stopped(stops, prefix)
        )
        uncounted = sorted(stopped + here)
        if len(children) == 1 and children[0][1] > READ_AT_ONCE:
            deeper, between = await self._only_branch(*children[0], uncounted)
            children, uncounted = [deeper], sorted(uncounted + between)
        low, waiting = prefix, 0
        for child, count in children:
            if count <= READ_AT_ONCE:
                waiting += count
                if waiting >= batch:
                    yield await self._search_terms.between(low, child + END)
                    low, waiting = child + END, 0
                continue
            yield await self._gap(uncounted, low, child, waiting)
            async for keys in self._descend(child, _within(uncounted, child, child + END), batch):
                yield keys
            low, waiting = child + END, 0
        yield await self._gap(uncounted, low, prefix + END, waiting)

    async def _only_branch(self, prefix: str, count: int, uncounted: list[str]) -> tuple[tuple[str, int], list[str]]:
        """Skip the levels on which everybody goes the same way, as from `gma` to `gmail.com`.

        Returns the end of the way with its count, and the keys that stopped on it.
        """
        guess = _common_prefix(uncounted)
        if len(guess) <= len(prefix) + 1 or not guess.startswith(prefix):
            return (prefix, count), []
        way = [guess[:length] for length in range(len(prefix), len(guess))]
        counted, between = await asyncio.gather(
            self._search_terms.count(guess), self._search_terms.stopped(way, prefix)
        )
        if counted + len({_owner(key) for key in between}) != count:
            return (prefix, count), []
        return (guess, counted), between

    async def _gap(self, uncounted: list[str], low: str, high: str, counted: int) -> list[str]:
        """The keys from `low` to `high`. Where nobody is counted, all of them are among the uncounted."""
        if counted == 0:
            return _within(uncounted, low, high)
        return await self._search_terms.between(low, high)


def _check(query: SearchQuery) -> None:
    if not 1 <= len(query.q) <= QUERY_LENGTH:
        raise ValidationFailed.at("q", f"must have 1 to {QUERY_LENGTH} characters")
    if not search_text.normalise(query.q):
        raise ValidationFailed.at("q", "must not be blank")
    if not 1 <= query.limit <= MAX_RESULTS:
        raise ValidationFailed.at("limit", f"must be 1 to {MAX_RESULTS}")


def _owner(key: str) -> str:
    return key.rpartition(SEPARATOR)[2]


def _common_prefix(ordered: list[str]) -> str:
    if not ordered:
        return ""
    first, last = ordered[0], ordered[-1]
    different = (position for position, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1])
    return first[: next(different, min(len(first), len(last)))]


def _within(keys: list[str], low: str, high: str) -> list[str]:
    return [key for key in keys if low <= key < high]
