"""Finds users by prefixes of their terms, at about the same cost for ten or for a million users."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from server.blocks import BlockIndex
from server.errors import ValidationFailed
from server.models import User
from server.protocol import SearchResult
from server.requests import SearchQuery
from server.services.search import terms
from server.services.search.contact_matches import ContactMatches
from server.services.search.ports import Contact, Limits, People
from server.services.search.prefix_matches import PrefixMatches, PrefixReader, owner_of
from server.storage.mongo.search_terms import PUBLIC, SearchTerms

# Users checked for being found by both the text and the digits of a query.
MAX_COMPARED: Final = 100


class Query(NamedTuple):
    """The prefixes to look for, and whether in all terms or in those without email and phone."""

    prefixes: Sequence[str]
    with_contact: bool

    @property
    def part(self) -> str:
        """What the keys of that part of the index begin with."""
        return "" if self.with_contact else PUBLIC

    def matches(self, user: User, *, prefix: str | None = None) -> bool:
        """Whether the index has this user behind one of the prefixes, or behind this one."""
        found = terms.terms_of(user) if self.with_contact else terms.public_terms_of(user)
        prefixes = self.prefixes if prefix is None else [prefix]
        return user.is_active and any(terms.matches(found, one) for one in prefixes)


class Search:
    """Lists users by matching term, then by id. If one node cannot hold them all, those indexed first come first.

    Where not everybody sees emails and phone numbers, users who are found by these come before the others.
    """

    def __init__(
        self, search_terms: SearchTerms, people: People, limits: Limits, blocks: BlockIndex, contact: Contact
    ) -> None:
        self._index = PrefixReader(search_terms)
        self._people = people
        self._limits = limits
        self._blocks = blocks
        self._contact = contact
        self._contact_matches = ContactMatches(self._index, people, contact)

    async def search(self, user_id: str, query: SearchQuery) -> SearchResult:
        """Active users whom `query.q` finds, without the caller. Raises `ValidationFailed`, `RateLimited`."""
        if not query.q.strip():
            raise ValidationFailed.at("q", "must not be blank")
        self._limits.check_search(user_id)
        if not terms.normalise(query.q):
            # Only invisible characters.
            return SearchResult(users=[], total=0)
        asked = Query(terms.queries(query.q), self._contact.is_public)
        # Whoever has blocked the caller is not found, and neither is the caller.
        unseen, found, others = await asyncio.gather(
            self._people.get_many([user_id, *self._blocks.blockers_of(user_id)]),
            asyncio.gather(*(self._index.find(prefix, asked.part) for prefix in asked.prefixes)),
            self._find_by_contact(user_id, asked),
        )
        first = [user for user in others if user.id not in unseen and not asked.matches(user)]
        users = await self._take(first[: query.limit], found, set(unseen), query.limit)
        total = sum(one.total for one in found) - await self._count_duplicates(asked, found) + len(first)
        total -= sum(asked.matches(user) for user in unseen.values())
        # Counts lag behind the keys for a moment after a registration or a change of name.
        return SearchResult(users=await self._people.views(users, user_id), total=max(total, len(users)))

    async def _find_by_contact(self, user_id: str, asked: Query) -> list[User]:
        return [] if asked.with_contact else await self._contact_matches.find(user_id, asked.prefixes)

    async def _take(
        self, first: Iterable[User], found: Iterable[PrefixMatches], unseen: set[str], limit: int
    ) -> list[User]:
        """`first` and then others up to `limit` users, each once, without those who are not to be seen."""
        taken = {user.id: user for user in first}
        seen = unseen | set(taken)
        for one in found:
            async for keys in self._index.keys(one):
                fresh = [owner for owner in dict.fromkeys(map(owner_of, keys)) if owner not in seen]
                seen.update(fresh)
                while fresh and len(taken) < limit:
                    some, fresh = fresh[: limit - len(taken)], fresh[limit - len(taken) :]
                    users = await self._people.get_many(some)
                    taken.update((owner, users[owner]) for owner in some if owner in users and users[owner].is_active)
                if len(taken) == limit:
                    return list(taken.values())
        return list(taken.values())

    async def _count_duplicates(self, asked: Query, found: Sequence[PrefixMatches]) -> int:
        """The number of users that both the text and the digits of a query find; rarely above 0."""
        if len(found) < 2 or not all(one.total for one in found):
            return 0
        fewer, more = sorted(found, key=lambda one: one.total)
        users = await self._people.get_many(fewer.owners[:MAX_COMPARED])
        prefix = more.prefix.removeprefix(asked.part)
        return sum(asked.matches(user, prefix=prefix) for user in users.values())
