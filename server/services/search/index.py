"""Keeps the search index true to the profiles, also across crashes."""

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from server.concurrency.batcher import Batcher
from server.errors import ChatError, Unavailable
from server.models import User
from server.services.search.terms import terms_of
from server.storage.mongo.search_terms import SEPARATOR, IndexChange, SearchTerms
from server.storage.mongo.users import UserRecord, Users

log = logging.getLogger(__name__)

# A prefix that counts so many people takes no further keys; longer prefixes are counted then. It is more than most
# answers list, so that most searches need no other node.
POPULAR: Final = 48
# No query goes beyond a term, so what follows it, the id, is taken in larger steps. With two digits of 16 there are
# few enough nodes below a node to be named in it.
ID_STEP: Final = 2
# Keys of one person that are gone through before others have a turn.
KEYS_PER_TURN: Final = 25
# So many steps of each way are asked for at once.
LOOK_AHEAD: Final = 4
# Popular prefixes that are remembered, to spare the question.
REMEMBERED: Final = 100_000
# Changes that are known as done. Whoever read one in a user just before may ask for it a moment later.
REMEMBERED_DONE: Final = 1_000
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
        self._settling: dict[str, asyncio.Future[None]] = {}
        # Begun but cut off. They go first, while the nodes still know which of it they have seen.
        self._cut_off: dict[str, IndexChange] = {}
        self._done: dict[str, None] = {}

    async def plan(self, user: User, indexed: Mapping[str, str]) -> IndexChange:
        """What makes the index hold what `user` can be found by, where it holds `indexed` now. Nothing is written."""
        wanted, born = await self._stops({key: _way(key) for key in _keys(user)})
        counts = Counter(await _counted(wanted.items()))
        counts.subtract(await _counted(indexed.items()))
        return IndexChange(
            id=_new_id(),
            add={key: stop for key, stop in wanted.items() if indexed.get(key) != stop},
            drop={key: stop for key, stop in indexed.items() if wanted.get(key) != stop},
            counts={prefix: number for prefix, number in counts.items() if number},
            born=born,
            indexed=wanted,
        )

    async def settle(self, change: IndexChange) -> None:
        """Carry out a change that is stored with its user. Raises `Unavailable`."""
        if change.to_document() is None or change.id in self._done:
            return
        settling = self._settling.get(change.id)
        if settling is None:
            settling = self._settling[change.id] = self._batcher.add(change)
            settling.add_done_callback(lambda _: self._settling.pop(change.id))
        # Others may wait for it as well.
        await asyncio.shield(settling)

    async def settle_soon(self, change: IndexChange) -> None:
        """As `settle`, but a failure is left to `settle_all`: the change of the user itself stands already."""
        try:
            await self.settle(change)
        except ChatError as error:
            log.warning("The search index of one user will be mended later: %s", error.detail)

    async def settle_all(self) -> int:
        """Carry out everything that was left behind; at the start and now and then. Returns how many users."""
        recovered = 0
        while records := await self._users.find_pending(SETTLED_AT_ONCE):
            await asyncio.gather(*(self.settle(record.pending) for record in records if record.pending is not None))
            recovered += len(records)
        return recovered

    async def renew(self, user_ids: Collection[str]) -> None:
        """Let the index hold these people by the terms of today, whatever an older server has put there for them.

        Nobody may change their profiles meanwhile. Raises `Unavailable`; calling it again makes good what is missing.
        """
        await self._users.forget_older_index(user_ids)
        await asyncio.gather(*map(self._renew_one, await self._users.find_records(user_ids)))

    async def drop_older(self) -> None:
        """Forget the index of before, once everybody is renewed."""
        await self._search_terms.drop_older()

    async def _renew_one(self, record: UserRecord) -> None:
        if record.pending is not None:
            await self.settle(record.pending)
        if record.indexed.keys() != set(_keys(record.user)):
            change = await self.plan(record.user, record.indexed)
            if await self._users.change(record, {}, change):
                await self.settle(change)

    async def _carry_out(self, changes: Sequence[IndexChange]) -> None:
        self._cut_off |= {change.id: change for change in changes if change.id not in self._done}
        while self._cut_off:
            some = list(self._cut_off.values())[:MAX_BATCH]
            try:
                await self._search_terms.apply(some)
                await self._users.finish([change.id for change in some])
            except Unavailable:
                raise
            except Exception:
                # Not again and again with all that come next: the sweep tries them.
                for change in some:
                    del self._cut_off[change.id]
                raise
            for change in some:
                del self._cut_off[change.id]
                self._done[change.id] = None
            for change_id in list(self._done)[:-REMEMBERED_DONE]:
                del self._done[change_id]

    async def _stops(self, ways: Mapping[str, Sequence[int]]) -> tuple[dict[str, str], dict[str, str]]:
        """Each key with its longest prefix that is to be counted; and such prefixes as are new, with the one above."""
        stops: dict[str, str] = {}
        born: dict[str, str] = {}
        places = dict.fromkeys(ways, 0)
        while places:
            for key, place in places.items():
                places[key] = self._skip_popular(key, ways[key], place)
            asked = {key[:end] for key, place in places.items() for end in ways[key][place : place + LOOK_AHEAD]}
            counts = await self._search_terms.counts(asked)
            self._remember(prefix for prefix, count in counts.items() if count >= POPULAR)
            for key, place in list(places.items()):
                way = ways[key]
                ahead = range(place, min(place + LOOK_AHEAD, len(way)))
                stop = next((at for at in ahead if counts.get(key[: way[at]], 0) < POPULAR or at == len(way) - 1), None)
                if stop is None:
                    places[key] += LOOK_AHEAD
                    continue
                del places[key]
                stops[key] = key[: way[stop]]
                if stop > 0 and stops[key] not in counts:
                    born[stops[key]] = key[: way[stop - 1]]
        return stops, born

    def _skip_popular(self, key: str, way: Sequence[int], place: int) -> int:
        while place < len(way) - 1 and key[: way[place]] in self._popular:
            place += 1
        return place

    def _remember(self, popular: Iterable[str]) -> None:
        if len(self._popular) > REMEMBERED:
            self._popular.clear()
        self._popular.update(popular)


def _new_id() -> str:
    # Those that are older sort first.
    return f"{time.time_ns() // 1_000_000:011x}{uuid.uuid4().hex[:5]}"


def _keys(user: User) -> list[str]:
    """All that `user` can be found by, as keys of the index, sorted."""
    terms = terms_of(user) if user.is_active else set()
    return [f"{term}{SEPARATOR}{user.id}" for term in sorted(terms)]


def _way(key: str) -> list[int]:
    """The lengths of the prefixes of a key that may be counted, one below the other."""
    end = key.index(SEPARATOR) + 1
    return [*range(1, end + 1), *range(end + ID_STEP, len(key), ID_STEP), len(key)]


async def _counted(stops: Iterable[tuple[str, str]]) -> set[str]:
    """The prefixes under which a user whose keys have these stops is counted, each once."""
    counted: set[str] = set()
    for number, (key, stop) in enumerate(stops, 1):
        counted.update(key[:end] for end in _way(key) if end <= len(stop))
        if number % KEYS_PER_TURN == 0:
            # A long name has hundreds of keys, and each of them may have a hundred prefixes.
            await asyncio.sleep(0)
    return counted
