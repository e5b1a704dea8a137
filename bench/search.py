"""Finding people: `python -m bench.search` asks for prefixes in datasets of 1,000 to 1,000,000 people.

Each dataset has its own store; the queries alternate between them. With `--data FOLDER` filled datasets stay for the
next run. Each search starts with empty caches; only the searching user is cached, as on a server that has authenticated
them.
"""

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import uvloop

from bench.dataset import fill
from bench.figures import latency_of
from bench.generator import person
from bench.report import publish
from bench.servers import ROOT, SERVER_CORE, STORE_CORE
from server.blocks import BlockIndex
from server.config.load import load
from server.config.settings import ContactRule
from server.embedded import EmbeddedStores
from server.models import User
from server.requests import SearchQuery
from server.services.accounts.contact import Contact
from server.services.accounts.profiles import Profiles
from server.services.search.index import UserIndex
from server.services.search.people import Search
from server.storage.mongo.database import Database
from server.storage.mongo.search_terms import SearchTerms
from server.storage.mongo.users import Users

SEED: Final = 1
SAMPLES: Final = 2_000  # people from whose names and addresses the questions are taken
WARM_UP: Final = 100  # rounds; a store that has just started reads everything from the disk
LIMIT_MS: Final = 50.0
LIMIT_SIZE: Final = 100_000
REFERENCE: Final = "reference: one profile"

Typed = Callable[[User], str]


class Nobody:
    """No presence, no portraits, no limits and no rooms."""

    async def online(self, _user_ids: Collection[str]) -> set[str]:
        return set()

    def check_profile_change(self, user_id: str) -> None:
        """Limits nothing."""

    def check_search(self, _user_id: str) -> None:
        return None

    async def find_sharing(self, _user_id: str, _others: Collection[str] | None) -> set[str]:
        return set()


def is_korean(user: User) -> bool:
    return "가" <= user.last_name[0] <= "힣"


def host(user: User) -> str:
    return user.email.partition("@")[2]


# The queries, by kind: whose name, and how much of it.
KINDS: Final[dict[str, tuple[Callable[[User], bool], Typed]]] = {
    "Latin name, 2 letters": (lambda user: not is_korean(user), lambda user: user.first_name[:2]),
    "Latin name, 10 letters": (
        lambda user: not is_korean(user) and len(user.full_name) >= 10,
        lambda user: user.full_name[:10],
    ),
    "email, 2 letters": (lambda _: True, lambda user: user.email[:2]),
    "email, 10 letters": (lambda _: True, lambda user: user.email[:10]),
    "email, whole": (lambda _: True, lambda user: user.email),
    "email host, 2 letters": (lambda _: True, lambda user: host(user)[:2]),
    "email host, 9 or 10 letters": (lambda _: True, lambda user: host(user)[:10]),
    "Korean name, 2 letters": (is_korean, lambda user: (user.last_name + user.first_name)[:2]),
    "Korean given name, 2 letters": (is_korean, lambda user: user.first_name),
    "Korean name, whole": (is_korean, lambda user: user.last_name + user.first_name),
    "phone, 2 digits": (lambda _: True, lambda user: (user.phone or "")[:3]),
    "phone, 10 digits": (lambda _: True, lambda user: (user.phone or "").replace("-", "").replace(" ", "")[:11]),
}


class Dataset:
    """A filled store, and some of those who live there."""

    def __init__(self, size: int, database: Database, sample: list[User], rule: ContactRule) -> None:
        self.size = size
        self._rule = rule
        self._users, self._terms = Users(database), SearchTerms(database)
        self._sample = sample
        self._source = random.Random(SEED)

    async def ask(self, kind: str) -> tuple[float, int, int]:
        """Seconds of one search, how many people it found, and how many it listed."""
        nobody = Nobody()
        contact, blocks = Contact(self._rule, nobody.find_sharing, BlockIndex()), BlockIndex()
        index = UserIndex(self._users, self._terms)
        people = Profiles(self._users, index, nobody, nobody, nobody, blocks, contact)  # type: ignore[arg-type]
        search = Search(self._terms, people, nobody, blocks, contact)
        asker = self._source.choice(self._sample)
        if kind == REFERENCE:
            begun = time.perf_counter()
            await people.profile(asker.id, asker.id)
            return time.perf_counter() - begun, 1, 1
        query = SearchQuery(self._question(kind))
        await people.get(asker.id)
        begun = time.perf_counter()
        result = await search.search(asker.id, query)
        return time.perf_counter() - begun, result.total, len(result.users)

    def _question(self, kind: str) -> str:
        is_meant, typed = KINDS[kind]
        while not is_meant(user := self._source.choice(self._sample)):
            pass
        return typed(user)


@contextlib.asynccontextmanager
async def open_dataset(size: int, folder: Path, rule: ContactRule) -> AsyncIterator[Dataset]:
    """The dataset in this folder; filled if it is empty."""
    # No Redis is needed: an unused address keeps the embedded one from being started.
    settings = load(ROOT / "config.yaml", [f"data_dir={folder}", "redis.url=redis://127.0.0.1:1"])
    stores = EmbeddedStores()
    os.sched_setaffinity(0, {STORE_CORE})
    addresses = await stores.start(settings)
    os.sched_setaffinity(0, {SERVER_CORE})
    database, sampled = Database(addresses.mongodb_uri, "bench"), folder / "sample.json"
    try:
        if not sampled.exists():
            sample = await fill(database, inhabitants(size), SAMPLES / size)
            sampled.write_bytes(msgspec.json.encode(sample))
        yield Dataset(size, database, msgspec.json.decode(sampled.read_bytes(), type=list[User]), rule)
    finally:
        database.close()
        await stores.stop()


def inhabitants(size: int) -> Iterator[User]:
    source = random.Random(SEED)
    return (person(source, number) for number in range(size))


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    answers: dict[tuple[str, int], list[tuple[float, int, int]]] = {}
    async with contextlib.AsyncExitStack() as stack:
        data = options.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="madang-bench-")))
        datasets = [
            await stack.enter_async_context(open_dataset(size, data / str(size), options.contact))
            for size in options.sizes
        ]
        for number in range(WARM_UP + options.questions):
            for kind in [REFERENCE, *KINDS]:
                for dataset in datasets:
                    answer = await dataset.ask(kind)
                    if number >= WARM_UP:
                        answers.setdefault((kind, dataset.size), []).append(answer)
    smallest, rows = min(options.sizes), []
    for (kind, size), asked in answers.items():
        latency = latency_of([seconds for seconds, _, _ in asked])
        least = latency_of([seconds for seconds, _, _ in answers[kind, smallest]])
        rows.append(
            {
                "question": kind,
                "dataset": f"{size:,} people",
                "found": statistics.median_high(found for _, found, _ in asked),
                "listed": statistics.median_high(listed for _, _, listed in asked),
                "p50 ms": latency.p50,
                "p99 ms": latency.p99,
                f"p50 to that of {smallest:,}": round(latency.p50 / least.p50, 2),
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--questions", type=int, default=200, help="of each kind")
    parser.add_argument("--data", type=Path, help="where the filled datasets are, or are to be kept")
    rules = get_args(ContactRule)
    parser.add_argument("--contact", choices=rules, default="everybody", help="the setting profiles.contact")
    options = parser.parse_args()
    rows = uvloop.run(run(options))
    publish("search", "Search", rows, plot=("p50 ms", "ms (median)"), details={**vars(options), "data": None})
    slow = [row["p99 ms"] for row in rows if row["dataset"] == f"{LIMIT_SIZE:,} people"]
    if slow:
        print(f"slowest p99 among {LIMIT_SIZE:,}: {max(slow):.1f} ms, wanted below {LIMIT_MS:.0f} ms")
    return 0 if max(slow, default=0.0) < LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
