"""The stored search index: after registrations, after a change that is applied twice, and what a search reads."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pymongo import monitoring

from bench.dataset import fill
from bench.generator import person
from bench.search import Nobody
from server.blocks import BlockIndex
from server.config.load import load
from server.config.settings import ContactRule
from server.embedded import EmbeddedStores
from server.models import User
from server.requests import ProfilePatch, SearchQuery
from server.services.accounts.contact import Contact
from server.services.accounts.profiles import Profiles
from server.services.search.index import POPULAR, UserIndex
from server.services.search.people import Search
from server.services.search.terms import public_terms_of, queries, terms_of
from server.storage.mongo.database import Database
from server.storage.mongo.search_terms import PUBLIC, SearchTerms
from server.storage.mongo.users import Users
from tests.support.server_process import ROOT

# So many that the first letters, hosts and calling codes of many are popular.
INHABITANTS = 5 * POPULAR


class Reads(monitoring.CommandListener):
    """The collections that were read."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name == "find":
            self.seen.append(event.command["find"])

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to note."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to note."""


READS = Reads()
monitoring.register(READS)


class Place:
    """The services over one database."""

    def __init__(self, database: Database, rule: ContactRule = "everybody") -> None:
        nobody = Nobody()
        blocks = BlockIndex()
        contact = Contact(rule, nobody.find_sharing, blocks)
        self.database = database
        self.users, self.terms = Users(database), SearchTerms(database)
        self.index = UserIndex(self.users, self.terms)
        self.people = Profiles(self.users, self.index, nobody, nobody, nobody, blocks, contact)  # type: ignore[arg-type]
        self.search = Search(self.terms, self.people, nobody, blocks, contact)

    async def prepare(self) -> None:
        await self.users.prepare()
        await self.terms.prepare()

    async def documents(self, collection: str) -> dict[str, dict[str, Any]]:
        """By id. Changes have random ids, so that only their number can be compared."""
        found = await self.database.run(self.database.collection(collection).find().to_list, None)
        return {item["_id"]: item | {"changes": len(item.get("changes", []))} for item in found}


@contextlib.asynccontextmanager
async def places(folder: Path, *names: str) -> AsyncIterator[list[Place]]:
    """Databases of these names in one store."""
    stores = EmbeddedStores()
    # An address that nobody asks keeps the embedded Redis from being started.
    addresses = await stores.start(load(ROOT / "config.yaml", [f"data_dir={folder}", "redis.url=redis://127.0.0.1:1"]))
    databases = [Database(addresses.mongodb_uri, name) for name in names]
    try:
        made = [Place(database) for database in databases]
        for place in made:
            await place.prepare()
        yield made
    finally:
        for database in databases:
            database.close()
        await stores.stop()


def inhabitants(count: int) -> list[User]:
    source = random.Random(7)
    return [person(source, number) for number in range(count)]


async def test_a_filled_town_is_what_registrations_leave(tmp_path: Path) -> None:
    people = inhabitants(INHABITANTS)
    async with places(tmp_path, "registered", "filled") as (registered, filled):
        for user in people:
            await registered.people.create(user, None)
        await fill(filled.database, people)
        for collection in ("users", "search_nodes"):
            ordinary = await registered.documents(collection)
            assert ordinary
            assert await filled.documents(collection) == ordinary


async def test_a_change_that_is_applied_again_changes_nothing(tmp_path: Path) -> None:
    people = inhabitants(2 * POPULAR)
    async with places(tmp_path, "town") as (town,):
        await fill(town.database, people[:-2])
        before = await town.documents("search_nodes")
        one, other = [await town.index.plan(user, {}) for user in people[-2:]]
        # As after a crash in the middle: some of it was done alone, then it is done again together with the next one.
        await town.terms.apply([one])
        once = await town.documents("search_nodes")
        assert once != before
        await town.terms.apply([one])
        assert await town.documents("search_nodes") == once
        await town.terms.apply([other, one])
        both = await town.documents("search_nodes")
        await town.terms.apply([one, other])
        assert await town.documents("search_nodes") == both
        grown = {prefix: node["n"] - before.get(prefix, {"n": 0})["n"] for prefix, node in both.items()}
        for prefix in one.counts | other.counts:
            assert grown.pop(prefix) == one.counts.get(prefix, 0) + other.counts.get(prefix, 0), prefix
        assert not any(grown.values())


async def test_the_index_holds_what_people_are_called_now(tmp_path: Path) -> None:
    """Also when many come and change their names at once."""
    people = inhabitants(2 * POPULAR)
    async with places(tmp_path, "town") as (town,):
        await asyncio.gather(*(town.people.create(user, None) for user in people))
        await check_index(town, [user.id for user in people])
        patches = [ProfilePatch(first_name="Zoë", phone=None), ProfilePatch(last_name="Żuk")]
        await asyncio.gather(*(town.people.update(user.id, patch) for user in people[9:] for patch in patches))
        await check_index(town, [user.id for user in people])
        asker = people[-1]
        for query in ("Żuk Z", "zoë"):
            result = await town.search.search(asker.id, SearchQuery(query, limit=100))
            assert result.total == len(people) - 10
            assert {user.id for user in result.users} == {user.id for user in people[9:-1]}


async def check_index(town: Place, user_ids: list[str]) -> None:
    """Every term of everybody is in one node, and each node counts the people who are in it and below it."""
    nodes = await town.documents("search_nodes")
    users = [user for user_id in user_ids if (user := await town.users.find(user_id)) is not None]
    kept = sorted(key for node in nodes.values() for key in node.get("keys", []))
    everything = [(user, {*terms_of(user), *(PUBLIC + term for term in public_terms_of(user))}) for user in users]
    assert kept == sorted(f"{term}\0{user.id}" for user, terms in everything for term in terms)
    behind: dict[str, set[str]] = {prefix: set() for prefix in nodes}
    for stop, node in nodes.items():
        for key in node.get("keys", []):
            assert key.startswith(stop)
            for length in range(shortest(stop), len(stop) + 1):
                behind.setdefault(stop[:length], set()).add(key.rpartition("\0")[2])
    for prefix, node in nodes.items():
        assert node["n"] == len(behind[prefix]), prefix
        for lower in node.get("below", []):
            assert lower in nodes
            assert lower.startswith(prefix)
    below = [lower for node in nodes.values() for lower in node.get("below", [])]
    assert sorted(below) == sorted(prefix for prefix in nodes if len(prefix) > shortest(prefix))


def shortest(prefix: str) -> int:
    """The length of the first node above this one."""
    return 2 if prefix.startswith(PUBLIC) else 1


async def test_a_search_where_contact_is_not_public_is_two_reads_more(tmp_path: Path) -> None:
    people = inhabitants(INHABITANTS)
    async with places(tmp_path, "town") as (town,):
        await fill(town.database, people)
        asker, named = people[0], people[1]
        for query, found in (("gmail.com", 0), (named.email[:-1], 0), (named.email, 1), (named.phone or "", 1)):
            fresh = Place(town.database, "nobody")
            await fresh.people.get(asker.id)
            READS.seen.clear()
            result = await fresh.search.search(asker.id, SearchQuery(query))
            assert (result.total, [user.id for user in result.users]) == (found, [named.id][:found]), query
            assert len(READS.seen) <= 2 * len(queries(query)) + 1, query


async def test_a_search_is_two_reads_whatever_it_finds(tmp_path: Path) -> None:
    people = inhabitants(INHABITANTS)
    async with places(tmp_path, "town") as (town,):
        await fill(town.database, people)
        fresh = Place(town.database)
        asker = people[0]
        for query, least in (("gmail.com", POPULAR), ("j", POPULAR), (people[1].email, 1)):
            await fresh.people.get(asker.id)
            READS.seen.clear()
            result = await fresh.search.search(asker.id, SearchQuery(query))
            assert result.total >= least, query
            assert len(result.users) == min(20, result.total)
            assert READS.seen == ["search_nodes", "users"], query
            fresh = Place(town.database)
