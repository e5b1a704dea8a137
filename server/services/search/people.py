"""Finds users by prefixes of their terms, at about the same cost for ten or for a million users."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Final

from server.blocks import BlockIndex
from server.errors import ValidationFailed
from server.models import User
from server.protocol import SearchResult
from server.requests import SearchQuery
from server.services.search import terms
from server.services.search.ports import Limits, People
from server.storage.mongo.search_terms import SEPARATOR, Node, SearchTerms

# Users checked for being found by both the text and the digits of a query.
MAX_COMPARED: Final = 100
# Nodes below others that are read at once, if those above do not hold enough keys.
NODES_AT_ONCE: Final = 20


class PrefixMatches:
    """The users that one prefix finds: how many (`total`), and the keys of the first ones in order.

    A key is stored at its first prefix that was not popular then, so the keys behind a prefix are in its own node and
    in those above and below. The nodes of whole words (`ann ` for `ann`) are read too, so that these are listed first.
    """

    def __init__(self, prefix: str, nodes: dict[str, Node]) -> None:
        self.prefix = prefix
        above = [key for node in nodes.values() if len(node.prefix) < len(prefix) for key in node.keys]
        stopped = {key for key in above if key.startswith(prefix)}
        node = nodes.get(prefix, Node(prefix))
        words = [key for word in _whole_words(prefix) if word in nodes for key in nodes[word].keys]
        # The count does not include the owners of keys that stopped above.
        self.total = node.count + len(set(map(_owner, stopped)))
        self.keys = sorted({*stopped, *node.keys, *words})
        self.below = node.below

    @property
    def is_complete(self) -> bool:
        """Whether `keys` has keys of all users found."""
        return len(set(map(_owner, self.keys))) >= self.total


class Search:
    """Lists users by matching term, then by id. If one node cannot hold them all, those indexed first come first."""

    def __init__(self, search_terms: SearchTerms, people: People, limits: Limits, blocks: BlockIndex) -> None:
        self._search_terms = search_terms
        self._people = people
        self._limits = limits
        self._blocks = blocks

    async def search(self, user_id: str, query: SearchQuery) -> SearchResult:
        """Active users whom `query.q` finds, without the caller. Raises `ValidationFailed`, `RateLimited`."""
        if not query.q.strip():
            raise ValidationFailed.at("q", "must not be blank")
        self._limits.check_search(user_id)
        if not terms.normalise(query.q):
            # Only invisible characters.
            return SearchResult(users=[], total=0)
        prefixes = terms.queries(query.q)
        # Whoever has blocked the caller is not found, and neither is the caller.
        unseen, found = await asyncio.gather(
            self._people.get_many([user_id, *self._blocks.blockers_of(user_id)]),
            asyncio.gather(*(self._find(prefix) for prefix in prefixes)),
        )
        users = await self._take(found, set(unseen), query.limit)
        total = sum(one.total for one in found) - await self._count_duplicates(found)
        total -= sum(
            user.is_active and any(terms.matches(user, prefix) for prefix in prefixes) for user in unseen.values()
        )
        # Counts lag behind the keys for a moment after a registration or a change of name.
        return SearchResult(users=await self._people.views(users, user_id), total=max(total, len(users)))

    async def _find(self, prefix: str) -> PrefixMatches:
        ancestors = [prefix[:length] for length in range(1, len(prefix) + 1)]
        return PrefixMatches(prefix, await self._search_terms.nodes([*ancestors, *_whole_words(prefix)]))

    async def _take(self, found: Iterable[PrefixMatches], unseen: set[str], limit: int) -> list[User]:
        """The first `limit` users, each once, without those who are not to be seen."""
        taken: dict[str, User] = {}
        seen = set(unseen)
        for one in found:
            async for keys in self._keys(one):
                fresh = [owner for owner in dict.fromkeys(map(_owner, keys)) if owner not in seen]
                seen.update(fresh)
                while fresh and len(taken) < limit:
                    some, fresh = fresh[: limit - len(taken)], fresh[limit - len(taken) :]
                    users = await self._people.get_many(some)
                    taken.update((owner, users[owner]) for owner in some if owner in users and users[owner].is_active)
                if len(taken) == limit:
                    return list(taken.values())
        return list(taken.values())

    async def _keys(self, found: PrefixMatches) -> AsyncIterator[list[str]]:
        """All keys behind the prefix, in lists of one bounded read each; the first needs no read."""
        yield found.keys
        if found.is_complete:
            return
        below = found.below
        while below:
            some, below = below[:NODES_AT_ONCE], below[NODES_AT_ONCE:]
            nodes = (await self._search_terms.nodes(some)).values()
            below = [*below, *(lower for node in nodes for lower in node.below)]
            yield sorted(key for node in nodes for key in node.keys)

    async def _count_duplicates(self, found: list[PrefixMatches]) -> int:
        """The number of users that both the text and the digits of a query find; rarely above 0."""
        if len(found) < 2 or not all(one.total for one in found):
            return 0
        fewer, more = sorted(found, key=lambda one: one.total)
        users = await self._people.get_many(list(dict.fromkeys(map(_owner, fewer.keys)))[:MAX_COMPARED])
        return sum(user.is_active and terms.matches(user, more.prefix) for user in users.values())


def _whole_words(prefix: str) -> list[str]:
    return [prefix + SEPARATOR, f"{prefix} "]


def _owner(key: str) -> str:
    return key.rpartition(SEPARATOR)[2]
