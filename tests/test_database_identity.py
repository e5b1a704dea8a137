"""The identity document of a database: schema version, epoch and secret."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
from pymongo.collection import Collection

from server.storage.mongo.database import Database
from server.storage.mongo.identity import IdentityStore
from tests.support.own_stores import stores_in
from tests.test_start_failures import refused


@contextmanager
def identities_at(uri: str) -> Iterator[Collection[dict[str, Any]]]:
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        yield client["madang"]["database"]


@contextmanager
def databases_at(uri: str, *names: str) -> Iterator[list[Database]]:
    """One client each, as of several servers."""
    databases = [Database(uri, name) for name in names]
    try:
        yield databases
    finally:
        for database in databases:
            database.close()


async def test_servers_that_make_it_at_once_get_the_same(tmp_path: Path) -> None:
    async with stores_in(tmp_path) as addresses:
        with databases_at(addresses.mongodb_uri, *["madang"] * 8, "another") as (*databases, another):
            found = await asyncio.gather(*(IdentityStore(database).open() for database in databases))
            assert len(set(found)) == 1
            assert len(found[0].room_key) == 32
            again = IdentityStore(databases[0])
            assert await again.open() == found[0] == again.known
            other = await IdentityStore(another).open()
            assert other.room_key != found[0].room_key
            assert other.epoch != found[0].epoch


async def test_an_older_server_refuses_the_database_of_a_newer_one(tmp_path: Path) -> None:
    async with stores_in(tmp_path / "elsewhere") as addresses:
        with identities_at(addresses.mongodb_uri) as identities:
            newer = {"_id": "madang", "version": 9_999, "epoch": "e", "roomKey": "00"}
            identities.insert_one(newer)
            uri, url = f"mongodb.uri={addresses.mongodb_uri}", f"redis.url={addresses.redis_url}"
            said = await refused(tmp_path / "data", uri, url)
            assert said.startswith("cannot start: the database has version 9999, and this server knows ")
            assert len(said.splitlines()) == 1
            assert identities.database.list_collection_names() == ["database"]
            assert identities.find_one({}) == newer
