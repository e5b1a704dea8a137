"""A database of an older server is upgraded at the start, also if the start is interrupted."""

import asyncio
from pathlib import Path
from typing import Any

import pymongo
import pytest

from server.storage.mongo.database import Database
from server.storage.mongo.identity import VERSION
from server.storage.mongo.search_terms import PUBLIC
from tests.conftest import StartServer
from tests.support.own_stores import stores_in
from tests.support.waiting import eventually
from tests.test_search_index import Place, check_index

TOWN = 60
Documents = pymongo.database.Database[dict[str, Any]]


def make_old(database: Documents) -> None:
    """What a server left before there was a version, and before the search index became one tree."""
    updates, stored = [], []
    for user in database.users.find().to_list():
        pairs = [[f"{user[name].lower()}\0{user['_id']}", user[name][:3].lower()] for name in ("firstName", "lastName")]
        change = {"id": user["_id"], "add": pairs, "drop": ["gone"], "counts": [["old", 1]]}
        values = {"indexed": pairs, "pending": change if "a" in user["_id"][:4] else None}
        updates.append(pymongo.UpdateOne({"_id": user["_id"]}, {"$set": values}))
        stored += [{"key": key, "stop": stop} for key, stop in pairs]
    database.users.bulk_write(updates)
    database.search_keys.insert_many(stored)
    database.search_counts.insert_one({"_id": "old", "n": 1})
    database.search_nodes.drop()
    database.database.drop()


def grow(database: Documents, count: int) -> None:
    """More people like the first one."""
    (model, *_others) = database.users.find().to_list()
    names = [{"email": f"p{number}@grown.example", "lastName": f"Grown{number}"} for number in range(count)]
    database.users.insert_many([model | name | {"_id": f"{number:032x}"} for number, name in enumerate(names)])


def make_fourth(database: Documents) -> None:
    """What a server left whose search index had one part."""
    for user in database.users.find().to_list():
        entries = [entry for entry in user["indexed"].split("\0") if PUBLIC not in entry]
        database.users.update_one({"_id": user["_id"]}, {"$set": {"indexed": "\0".join(entries)}})
    for prefix in database.search_nodes.distinct("_id"):
        if prefix.startswith(PUBLIC):
            database.search_nodes.delete_one({"_id": prefix})
    database.database.update_one({}, {"$set": {"version": 4}})


@pytest.mark.embedded_stores
async def test_the_part_of_the_index_without_contact_is_made(
    tmp_path: Path, start_server: StartServer, town_at: Any
) -> None:
    async with stores_in(tmp_path) as addresses:
        settings = {"mongodb.uri": addresses.mongodb_uri, "redis.url": addresses.redis_url}
        server = await asyncio.to_thread(start_server, settings)
        people = await town_at(server).people(5)
        await asyncio.to_thread(server.stop)
        with pymongo.MongoClient[dict[str, Any]](addresses.mongodb_uri) as client:
            await asyncio.to_thread(make_fourth, client["madang"])
        await asyncio.to_thread(server.start)
        assert "database upgrade finished version=5" in server.log()
        asker = town_at(server).resident(people[0])
        assert (await asker.get("/api/v1/users/search", q="doe")).body["total"] == len(people) - 1
        store = Database(addresses.mongodb_uri, "madang")
        try:
            await check_index(Place(store), [person.id for person in people])
        finally:
            store.close()
        await asyncio.to_thread(server.stop)


@pytest.mark.embedded_stores
async def test_people_of_before_are_found_again(tmp_path: Path, start_server: StartServer, town_at: Any) -> None:
    async with stores_in(tmp_path) as addresses:
        server = await asyncio.to_thread(
            start_server, {"mongodb.uri": addresses.mongodb_uri, "redis.url": addresses.redis_url}
        )
        town = town_at(server)
        alice, bob, room_id = await town.pair()
        await alice.send(room_id, "before")
        await asyncio.to_thread(server.stop)
        with pymongo.MongoClient[dict[str, Any]](addresses.mongodb_uri) as client:
            database = client["madang"]
            await asyncio.to_thread(grow, database, TOWN)
            await asyncio.to_thread(make_old, database)
            starting = asyncio.ensure_future(asyncio.to_thread(server.start))

            async def is_half_done() -> bool:
                return await asyncio.to_thread(database.search_nodes.find_one, {}) is not None

            await eventually(is_half_done, "the index is being made")
            server.kill()
            await asyncio.gather(starting, return_exceptions=True)
            assert "database upgrade finished version=2" not in server.log()
            assert database.database.find_one({})["version"] == 1  # type: ignore[index]
            await asyncio.to_thread(server.start)
            assert "database upgrade started version=1 target=2" in server.log()
            assert f"search index upgrade users={TOWN + 2} total={TOWN + 2}" in server.log()
            assert not {"search_keys", "search_counts"} & set(database.list_collection_names())
            assert database.database.find_one({})["version"] == VERSION  # type: ignore[index]
            user_ids = database.users.distinct("_id")
        town = town_at(server)
        alice, bob = town.resident(alice), town.resident(bob)
        assert [found["id"] for found in (await bob.get("/api/v1/users/search", q=alice.user["email"])).body["users"]]
        assert (await bob.get("/api/v1/users/search", q="grown")).body["total"] == TOWN
        assert (await alice.call("PATCH", "/api/v1/users/me", {"lastName": "Renamed"})).status == 200
        assert (await bob.get("/api/v1/users/search", q="renamed")).body["total"] == 1
        assert [message["content"] for message in (await bob.history(room_id))["messages"]] == ["before"]
        store = Database(addresses.mongodb_uri, "madang")
        try:
            await check_index(Place(store), user_ids)
        finally:
            store.close()
        await asyncio.to_thread(server.stop)
