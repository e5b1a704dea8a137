"""Fills a store with a dataset of users: as their registrations would, in a small part of the time.

What the server's own index would hold is computed in memory, by the server's own rules, and stored in one go.
"""

import asyncio
import gc
import random
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from server.models import User
from server.services.search.index import UserIndex
from server.storage.mongo.database import Database
from server.storage.mongo.search_terms import IndexChange, Node, SearchTerms, growths_of
from server.storage.mongo.users import Users, user_document

T = TypeVar("T")

CHUNK: Final = 1_000
TIMEOUT: Final = 60.0


class NodesInMemory:
    """In the place of `SearchTerms`, so that planning asks no store."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    async def counts(self, prefixes: Collection[str]) -> dict[str, int]:
        nodes = self.nodes
        return {prefix: nodes[prefix].count for prefix in prefixes if prefix in nodes}

    def apply(self, change: IndexChange) -> None:
        for prefix, growth in growths_of(change).items():
            node = self.nodes.get(prefix)
            if node is None:
                node = self.nodes[prefix] = Node(prefix)
            node.grow(change.id, growth)


async def fill(database: Database, people: Iterable[User], sampled: float = 1.0) -> list[User]:
    """Store these people and the index of them. Returns some of them: the share `sampled`."""
    users, terms = Users(database), SearchTerms(database)
    await users.prepare()
    await terms.prepare()
    memory, sample, source, begun = NodesInMemory(), list[User](), random.Random(1), time.monotonic()
    index = UserIndex(users, memory)  # type: ignore[arg-type]
    # Nothing that is made here is garbage before the end.
    gc.disable()
    try:
        count, storing = 0, asyncio.ensure_future(asyncio.sleep(0))
        for chunk in chunks(people):
            documents = []
            for user in chunk:
                change = await index.plan(user, {})
                memory.apply(change)
                document = user_document(user, None, change)
                del document["pending"]
                documents.append(document)
                if source.random() < sampled:
                    sample.append(user)
            await storing
            storing = asyncio.ensure_future(store(database, "users", documents))
            count += len(chunk)
            report(f"{count:,} people", begun)
        await storing
        print(file=sys.stderr)
        count = 0
        for nodes in chunks(memory.nodes.values()):
            await store(database, "search_nodes", [node.to_document() for node in nodes])
            count += len(nodes)
            report(f"{count:,} of {len(memory.nodes):,} nodes", begun)
        print(file=sys.stderr)
    finally:
        gc.enable()
    return sample


async def store(database: Database, collection: str, documents: Sequence[dict[str, Any]]) -> None:
    await database.run(database.collection(collection).insert_many, documents, ordered=False, timeout=TIMEOUT)


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    source = iter(items)
    while part := list(islice(source, CHUNK)):
        yield part


def report(what: str, begun: float) -> None:
    print(f"\r{what}, {time.monotonic() - begun:.0f} s", end="", file=sys.stderr)
