"""Room ids: they cannot be computed from two users, and rooms with older ids are still found."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymongo
import pytest

from server.services.rooms.direct import derive_room_id
from tests.conftest import StartServer
from tests.support.own_stores import stores_in
from tests.support.people import Person, Town
from tests.support.rest import MESSAGES

TIMES = 10


async def open_from_both_sides(one: Person, other: Person, booking_id: str | None) -> tuple[list[int], set[str]]:
    """The statuses, sorted, and the ids of so many requests of each at once."""
    calls = [
        asker.post(f"{MESSAGES}/chat-rooms", {"otherUserId": asked.id, "bookingId": booking_id})
        for asker, asked in TIMES * ((one, other), (other, one))
    ]
    answers = await asyncio.gather(*calls)
    return sorted(answer.status for answer in answers), {answer.body["id"] for answer in answers}


async def test_a_room_id_does_not_follow_from_its_people(town: Town) -> None:
    one, other = await town.people(2)
    for booking_id in (None, "b-1"):
        statuses, ids = await open_from_both_sides(one, other, booking_id)
        assert statuses == [200] * (2 * TIMES - 1) + [201]
        assert len(ids) == 1
        assert not ids & {derive_room_id(one.id, other.id, booking_id)}


@pytest.mark.embedded_stores
async def test_a_room_from_before_ids_had_a_key_is_found(
    tmp_path: Path, start_server: StartServer, town_at: Any
) -> None:
    async with stores_in(tmp_path) as addresses:
        settings = {"mongodb.uri": addresses.mongodb_uri, "redis.url": addresses.redis_url}
        process = start_server(settings)
        one, other = await town_at(process).people(2)
        older_id = derive_room_id(one.id, other.id, None)
        older = {"userIds": [one.id, other.id], "bookingId": None, "createdAt": datetime.now(UTC), "lastSeq": 0}
        process.stop()
        with pymongo.MongoClient[dict[str, Any]](addresses.mongodb_uri) as client:
            client["madang"]["rooms"].insert_one({"_id": older_id, **older})
            client["madang"]["database"].update_one({}, {"$set": {"version": 2}})
        process.start()
        town = town_at(process)
        one, other = town.resident(one), town.resident(other)
        assert await open_from_both_sides(one, other, None) == ([200] * (2 * TIMES), {older_id})
        assert (await other.send(older_id))["seq"] == 1
        assert [chat["chatId"] for chat in (await one.chats())["chats"]] == [older_id]
        statuses, ids = await open_from_both_sides(one, other, "b-1")
        assert statuses.count(201) == 1 and len(ids) == 1
        process.stop()
