"""How long a search takes: `python -m bench.search --users 100000` fills an embedded store of its own and asks it.

The index is filled to exactly what as many registrations would have left. Each search starts with empty caches.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path

from bench.townsfolk import person
from server import config
from server.embedded.stores import EmbeddedStores
from server.models import User
from server.protocol import SearchQuery
from server.services.people import People
from server.services.search import Search
from server.services.user_index import UserIndex
from server.storage.database import Database
from server.storage.search_terms import IndexChange, SearchTerms
from server.storage.users import Users, user_document

ROOT = Path(__file__).resolve().parents[1]
CHUNK = 1_000
SAMPLES = 20_000  # people whose names and addresses the questions are taken from
WARM_UP = 20
LIMIT_MS = 50.0


class Nobody:
    """No presence, no portraits and no limits."""

    async def online(self, _user_ids: Collection[str]) -> set[str]:
        return set()

    def check_search(self, _user_id: str) -> None:
        return None


class Counts(Counter[str]):
    """The counts of prefixes in memory, so that planning asks no store."""

    async def popular(self, prefixes: Collection[str], least: int) -> set[str]:
        return {prefix for prefix in prefixes if self[prefix] >= least}


async def fill(database: Database, users: Users, terms: SearchTerms, count: int, seed: int) -> list[User]:
    """Store `count` people and the index of them. Returns some of them."""
    await users.prepare()
    await terms.prepare()
    counts, source, sample = Counts(), random.Random(seed), []
    index = UserIndex(users, counts)
    begun = time.monotonic()
    numbers = iter(range(count))
    while chunk := list(islice(numbers, CHUNK)):
        documents, keys = [], {}
        for number in chunk:
            user = person(source, number)
            change = await index.plan(user, {})
            for prefix, growth in change.counts.items():
                counts[prefix] += growth
            keys |= change.add
            documents.append(user_document(user, None, change) | {"pending": None})
            if source.random() < SAMPLES / count:
                sample.append(user)
        await database.run(database.collection("users").insert_many(documents, ordered=False), timeout=60)
        for part in chunked(keys):
            await terms.apply([IndexChange("fill", {key: keys[key] for key in part}, [], {}, {})])
        print(f"\r{chunk[-1] + 1:,} of {count:,} people, {time.monotonic() - begun:.0f} s", end="", file=sys.stderr)
    for part in chunked(counts):
        await terms.apply([IndexChange("fill", {}, [], {prefix: counts[prefix] for prefix in part}, {})])
    growth = sum(counts.values()) / count
    seconds = time.monotonic() - begun
    print(f"; {len(counts):,} counts, {growth:.0f} of them grow per person, {seconds:.0f} s in all", file=sys.stderr)
    return sample


def chunked(items: Iterable[str]) -> Iterator[list[str]]:
    source = iter(items)
    while part := list(islice(source, CHUNK)):
        yield part


def questions(sample: list[User]) -> dict[str, list[str]]:
    """What is typed, by kind: the beginnings of what these people are called."""
    korean = [user for user in sample if "가" <= user.last_name[0] <= "힣"]
    latin = [user for user in sample if not "가" <= user.last_name[0] <= "힣"]
    return {
        "Latin name, 2 letters": [user.first_name[:2] for user in latin],
        "Latin name, 10 letters": [user.full_name[:10] for user in latin if len(user.full_name) >= 10],
        "email, 2 letters": [user.email[:2] for user in sample],
        "email, 10 letters": [user.email[:10] for user in sample],
        "email host, 2 letters": [user.email.partition("@")[2][:2] for user in sample],
        "email host, 9 or 10 letters": [user.email.partition("@")[2][:10] for user in sample],
        "Korean name, 2 letters": [(user.last_name + user.first_name)[:2] for user in korean],
        "Korean given name, 2 letters": [user.first_name for user in korean],
        "Korean name, whole": [user.last_name + user.first_name for user in korean],
        "phone, 2 digits": [(user.phone or "")[:3] for user in sample],
        "phone, 10 digits": [(user.phone or "").replace("-", "").replace(" ", "")[:11] for user in sample],
    }


async def ask(users: Users, terms: SearchTerms, asker: User, query: str) -> tuple[float, int]:
    """Milliseconds of one search with empty caches, and how many people it found."""
    nobody = Nobody()
    search = Search(terms, People(users, UserIndex(users, terms), nobody, nobody), nobody)
    begun = time.perf_counter()
    result = await search.search(asker.id, SearchQuery(query))
    return (time.perf_counter() - begun) * 1000, result.total


async def measure(users: Users, terms: SearchTerms, sample: list[User], asked: int, seed: int) -> list[dict]:
    source, rows = random.Random(seed), []
    by_kind = questions(sample)
    asker = sample[0]
    for _ in range(WARM_UP):
        await ask(users, terms, asker, "jo")
    times: dict[str, list[tuple[float, int]]] = {kind: [] for kind in by_kind}
    for _ in range(asked):
        for kind, typed in by_kind.items():
            times[kind].append(await ask(users, terms, asker, source.choice(typed)))
    for kind, answers in times.items():
        milliseconds = sorted(time for time, _ in answers)
        rows.append(
            {
                "query": kind,
                "found": int(statistics.median(total for _, total in answers)),
                "p50_ms": round(milliseconds[len(milliseconds) // 2], 1),
                "p99_ms": round(milliseconds[int(len(milliseconds) * 0.99)], 1),
                "max_ms": round(milliseconds[-1], 1),
            }
        )
    return rows


async def run(options: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory(prefix="madang-bench-") as folder:
        # No Redis is needed: an address that nobody asks keeps the embedded one from being started.
        sets = [f"data_dir={folder}", "redis.url=redis://127.0.0.1:1"]
        stores = EmbeddedStores()
        addresses = await stores.start(config.load(ROOT / "config.yaml", sets))
        database = Database(addresses.mongodb_uri, "bench")
        try:
            users, terms = Users(database), SearchTerms(database)
            sample = await fill(database, users, terms, options.users, options.seed)
            return {"users": options.users, "rows": await measure(users, terms, sample, options.queries, options.seed)}
        finally:
            database.close()
            await stores.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200, help="searches of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    result = asyncio.run(run(options))
    print(f"search among {result['users']:,} people, {options.queries} of each kind, caches empty\n")
    print(f"{'query':<32}{'found':>9}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for row in result["rows"]:
        figures = f"{row['found']:>9,}{row['p50_ms']:>9.1f}{row['p99_ms']:>9.1f}{row['max_ms']:>9.1f}"
        print(f"{row['query']:<32}{figures}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    slowest = max(row["p99_ms"] for row in result["rows"])
    print(f"\nslowest p99 {slowest:.1f} ms, wanted below {LIMIT_MS:.0f} ms")
    return 0 if slowest < LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main())
