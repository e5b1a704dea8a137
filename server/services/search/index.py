"""Keeps the search index consistent with the profiles, also across crashes."""

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
from server.services.search.terms import public_terms_of, terms_of
from server.storage.mongo.search_terms import PUBLIC, SEPARATOR, IndexChange, SearchTerms
from server.storage.mongo.users import UserRecord, Users

log = logging.getLogger(__name__)

# A prefix with this many users takes no further keys; longer prefixes are counted then. It is more than most answers
# list, so that most searches need no other node.
POPULAR: Final = 48
# No query goes beyond a term, so the id behind it is taken in larger steps. With two hex digits a node has few enough
# nodes below it to name them all.
ID_STEP: Final = 2
# Keys processed between two yields to the event loop.
KEYS_PER_YIELD: Final = 25
# Prefixes of each key that are requested at once.
LOOK_AHEAD: Final = 4
# Popular prefixes that are cached, to save queries.
MAX_POPULAR: Final = 100_000
# Changes known as done. A caller may have read a change with its user just before it was done.
MAX_DONE: Final = 1_000
SETTLE_BATCH: Final = 100
# Changes applied together: users who register at the same time share most of the prefixes that grow.
MAX_BATCH: Final = 16


class UserIndex:
    """Plans a change of the index, which is stored with the change of the user, and then applies it.

    `settle_all` finds changes that were planned but not applied (a crash, a lost connection).
    """

    def __init__(self, users: Users, search_terms: SearchTerms) -> None:
        self._users = users
        self._search_terms = search_terms
        self._popular: set[str] = set()
        self._batcher: Batcher[IndexChange] = Batcher(self._apply, max_batch=MAX_BATCH)
        self._settling: dict[str, asyncio.Future[None]] = {}
        # Started but interrupted. They go first, while the nodes still record which of them they have seen.
        self._interrupted: dict[str, IndexChange] = {}
        self._done: dict[str, None] = {}

    async def plan(self, user: User, indexed: Mapping[str, str]) -> IndexChange:
        """The change from `indexed`, which the index holds now, to what `user` is found by. Nothing is written."""
        wanted, born = await self._stops({key: _prefix_lengths(key) for key in _keys(user)})
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
        """Apply a change that is stored with its user. Raises `Unavailable`."""
        if change.to_document() is None or change.id in self._done:
            return
        settling = self._settling.get(change.id)
        if settling is None:
            settling = self._settling[change.id] = self._batcher.add(change)
            settling.add_done_callback(lambda _: self._settling.pop(change.id))
        # Other callers may wait for it as well.
        await asyncio.shield(settling)

    async def settle_soon(self, change: IndexChange) -> None:
        """As `settle`, but a failure is left to `settle_all`: the change of the user is stored already."""
        try:
            await self.settle(change)
        except ChatError as error:
            log.warning("search index update deferred error=%s", error.detail)

    async def settle_all(self) -> int:
        """Apply all pending changes; called at the start and periodically. Returns the number of users."""
        recovered = 0
        while records := await self._users.find_pending(SETTLE_BATCH):
            await asyncio.gather(*(self.settle(record.pending) for record in records if record.pending is not None))
            recovered += len(records)
        return recovered

    async def renew(self, user_ids: Collection[str]) -> None:
        """Index these users by the current terms, whatever an older server has stored for them.

        Their profiles must not change meanwhile. Raises `Unavailable`; calling it again completes the work.
        """
        await self._users.forget_older_index(user_ids)
        await asyncio.gather(*map(self._renew_one, await self._users.find_records(user_ids)))

    async def drop_older(self) -> None:
        """Drop the index of older servers, once all users are renewed."""
        await self._search_terms.drop_older()

    async def _renew_one(self, record: UserRecord) -> None:
        if record.pending is not None:
            await self.settle(record.pending)
        if record.indexed.keys() != set(_keys(record.user)):
            change = await self.plan(record.user, record.indexed)
            if await self._users.change(record, {}, change):
                await self.settle(change)

    async def _apply(self, changes: Sequence[IndexChange]) -> None:
        self._interrupted |= {change.id: change for change in changes if change.id not in self._done}
        while self._interrupted:
            batch = list(self._interrupted.values())[:MAX_BATCH]
            try:
                await self._search_terms.apply(batch)
                await self._users.finish([change.id for change in batch])
            except Unavailable:
                raise
            except Exception:
                # Do not retry them with every later batch: `settle_all` does.
                for change in batch:
                    del self._interrupted[change.id]
                raise
            for change in batch:
                del self._interrupted[change.id]
                self._done[change.id] = None
            for change_id in list(self._done)[:-MAX_DONE]:
                del self._done[change_id]

    async def _stops(self, lengths_of: Mapping[str, Sequence[int]]) -> tuple[dict[str, str], dict[str, str]]:
        """Each key with its longest prefix that is to be counted; and the new ones of these, with the prefix above."""
        stops: dict[str, str] = {}
        born: dict[str, str] = {}
        positions = dict.fromkeys(lengths_of, 0)
        while positions:
            for key, position in positions.items():
                positions[key] = self._skip_popular(key, lengths_of[key], position)
            asked = {
                key[:end]
                for key, position in positions.items()
                for end in lengths_of[key][position : position + LOOK_AHEAD]
            }
            counts = await self._search_terms.counts(asked)
            self._cache_popular(prefix for prefix, count in counts.items() if count >= POPULAR)
            for key, position in list(positions.items()):
                lengths = lengths_of[key]
                ahead = range(position, min(position + LOOK_AHEAD, len(lengths)))
                stop = next(
                    (at for at in ahead if counts.get(key[: lengths[at]], 0) < POPULAR or at == len(lengths) - 1), None
                )
                if stop is None:
                    positions[key] += LOOK_AHEAD
                    continue
                del positions[key]
                stops[key] = key[: lengths[stop]]
                if stop > 0 and stops[key] not in counts:
                    born[stops[key]] = key[: lengths[stop - 1]]
        return stops, born

    def _skip_popular(self, key: str, lengths: Sequence[int], position: int) -> int:
        while position < len(lengths) - 1 and key[: lengths[position]] in self._popular:
            position += 1
        return position

    def _cache_popular(self, popular: Iterable[str]) -> None:
        if len(self._popular) > MAX_POPULAR:
            self._popular.clear()
        self._popular.update(popular)


def _new_id() -> str:
    # Older ids sort first.
    return f"{time.time_ns() // 1_000_000:011x}{uuid.uuid4().hex[:5]}"


def _keys(user: User) -> list[str]:
    """All index keys of `user`, sorted; none for an inactive user. The public terms once more, by themselves."""
    if not user.is_active:
        return []
    terms = terms_of(user) | {PUBLIC + term for term in public_terms_of(user)}
    return [f"{term}{SEPARATOR}{user.id}" for term in sorted(terms)]


def _prefix_lengths(key: str) -> list[int]:
    """The lengths of the prefixes of a key that may be counted, ascending."""
    begin, end = 2 if key.startswith(PUBLIC) else 1, key.index(SEPARATOR) + 1
    return [*range(begin, end + 1), *range(end + ID_STEP, len(key), ID_STEP), len(key)]


async def _counted(stops: Iterable[tuple[str, str]]) -> set[str]:
    """The prefixes that count a user whose keys have these stops, each once."""
    counted: set[str] = set()
    for number, (key, stop) in enumerate(stops, 1):
        counted.update(key[:end] for end in _prefix_lengths(key) if end <= len(stop))
        if number % KEYS_PER_YIELD == 0:
            # A long name has hundreds of keys, each with up to a hundred prefixes.
            await asyncio.sleep(0)
    return counted
