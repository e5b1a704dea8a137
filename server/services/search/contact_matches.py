"""Users found by email or phone, where not everybody sees these: by a whole one, or of those who share a room."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from server.models import User
from server.services.search import terms
from server.services.search.ports import Contact, People
from server.services.search.prefix_matches import PrefixMatches, PrefixReader

# People with whom the caller shares rooms are compared in memory, some of them between two yields to the event loop.
COMPARED_AT_ONCE: Final = 100
# Of more, the rest are found by a whole email or phone number only: comparing takes about 15 µs each.
MAX_COMPARED: Final = 5_000


class ContactMatches:
    def __init__(self, index: PrefixReader, people: People, contact: Contact) -> None:
        self._index = index
        self._people = people
        self._contact = contact

    async def find(self, viewer_id: str, prefixes: Sequence[str]) -> list[User]:
        """The active users besides the viewer, those found by a whole email or phone first. Raises `Unavailable`."""
        whole = [prefix for prefix in prefixes if terms.may_be_contact(prefix)]
        exact, sharing = await asyncio.gather(
            asyncio.gather(*(self._index.find(prefix) for prefix in whole)), self._contact.find_shown(viewer_id)
        )
        found = {user.id: user for user in await self._check_exact(whole, exact)}
        for user in await self._compare(prefixes, sorted(sharing)[:MAX_COMPARED]):
            found.setdefault(user.id, user)
        found.pop(viewer_id, None)
        return [user for user in found.values() if user.is_active]

    async def _check_exact(self, prefixes: Sequence[str], found: Iterable[PrefixMatches]) -> list[User]:
        owners = [owner for one in found for owner in one.owners_of_term()]
        users = await self._people.get_many(owners)
        ordered = [users[owner] for owner in owners if owner in users]
        return [user for user in ordered if any(terms.is_contact(user, prefix) for prefix in prefixes)]

    async def _compare(self, prefixes: Sequence[str], user_ids: Sequence[str]) -> list[User]:
        found = []
        for start in range(0, len(user_ids), COMPARED_AT_ONCE):
            users = await self._people.get_many(user_ids[start : start + COMPARED_AT_ONCE])
            found += [user for user in users.values() if any(terms.shows_contact(user, prefix) for prefix in prefixes)]
            await asyncio.sleep(0)
        return found
