"""Members alone define who is in a room: removed users stay out, and old databases are completed once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest

from bench.seed import seed_people
from server.config.load import load
from server.context import open_context
from server.models import Member, Position
from server.requests import GroupRequest, SyncRequest
from server.services.rooms.log_reading import READERS
from tests.conftest import StartServer
from tests.support.own_stores import stores_in
from tests.support.people import Person, Town
from tests.support.rest import MESSAGES
from tests.support.server_process import ROOT, ServerProcess

pytestmark = pytest.mark.embedded_stores
Documents = pymongo.database.Database[dict[str, Any]]
ROOMS = 230


@asynccontextmanager
async def server_on(folder: Path, start_server: StartServer) -> AsyncIterator[tuple[ServerProcess, Documents]]:
    """A server, and its database seen from outside."""
    async with stores_in(folder) as addresses:
        settings = {"mongodb.uri": addresses.mongodb_uri, "redis.url": addresses.redis_url}
        process = await asyncio.to_thread(start_server, settings)
        with pymongo.MongoClient[dict[str, Any]](addresses.mongodb_uri) as client:
            yield process, client["madang"]
        await asyncio.to_thread(process.stop)


async def restart(process: ServerProcess, town_at: Callable[[ServerProcess], Town], *people: Person) -> list[Person]:
    await asyncio.to_thread(process.stop)
    await asyncio.to_thread(process.start)
    town = town_at(process)
    return [town.resident(person) for person in people]


async def test_who_was_removed_is_a_stranger_everywhere(
    tmp_path: Path, start_server: StartServer, town_at: Any
) -> None:
    async with server_on(tmp_path, start_server) as (process, database):
        one, other, room_id = await town_at(process).pair()
        sent = await one.send(room_id, "before")
        await other.send(room_id, "of the one who is removed")
        await asyncio.to_thread(process.stop)
        database.members.delete_one({"roomId": room_id, "userId": other.id})
        await asyncio.to_thread(process.start)
        town = town_at(process)
        one, other = town.resident(one), town.resident(other)
        device = await other.connect()
        for path in (f"chat-rooms/{room_id}", f"chats/{room_id}/messages"):
            assert (await other.get(f"{MESSAGES}/{path}")).status == 404
        for path, body in (
            ("chat-rooms", {"otherUserId": one.id}),
            (f"chats/{room_id}/messages", {"content": "x"}),
            (f"chats/{room_id}/read", {"messageId": sent["messageId"]}),
        ):
            assert (await other.post(f"{MESSAGES}/{path}", body)).status == 404, path
        assert (await other.chats())["chats"] == []
        for event, payload in {
            "room:join": {"roomId": room_id},
            "message:send": {"roomId": room_id, "content": "x"},
            "message:read": {"messageId": sent["messageId"]},
            "message:delivered": {"messageId": sent["messageId"]},
            "typing:start": {"roomId": room_id},
            "sync": {"rooms": {room_id: 0}},
        }.items():
            ack = await device.call(event, payload)
            assert not ack["ok"] and ack["error"]["code"] == "NOT_FOUND", (event, ack)
        assert (await device.call("sync", {"rooms": {}}))["rooms"] == []
        assert (await one.send(room_id, "alone"))["seq"] == 3
        await device.round_trip()
        assert not device.heard("message:new") and not device.heard("messages:offline")
        one, other = await restart(process, town_at, one, other)
        assert (await one.history(room_id))["messages"][0]["content"] == "alone"
        assert database.members.count_documents({"roomId": room_id}) == 1, "nobody is put back"
        assert [chat["participantId"] for chat in (await one.chats())["chats"]] == [other.id]


async def test_members_without_their_room_are_nothing_until_it_is_created(
    tmp_path: Path, start_server: StartServer, town_at: Any
) -> None:
    """As a crash between the two leaves them."""
    async with server_on(tmp_path, start_server) as (process, database):
        one, other, room_id = await town_at(process).pair()
        await asyncio.to_thread(process.stop)
        database.rooms.delete_one({"_id": room_id})
        await asyncio.to_thread(process.start)
        town = town_at(process)
        one, other = town.resident(one), town.resident(other)
        assert (await one.chats())["chats"] == []
        assert (await one.get(f"{MESSAGES}/chat-rooms/{room_id}")).status == 404
        assert await other.open_room(one) == room_id
        assert (await one.send(room_id))["seq"] == 1
        assert [chat["chatId"] for chat in (await other.chats())["chats"]] == [room_id]
        assert "userIds" not in (database.rooms.find_one({"_id": room_id}) or {})


async def test_rooms_of_before_get_their_members_once(tmp_path: Path, start_server: StartServer, town_at: Any) -> None:
    async with server_on(tmp_path, start_server) as (process, database):
        one, other, room_id = await town_at(process).pair()
        await one.send(room_id)
        await asyncio.to_thread(process.stop)
        users = [one.id, other.id]
        database.rooms.update_one(
            {"_id": room_id}, {"$set": {"userIds": users}, "$unset": {"createdBy": 1, "cursors": 1}}
        )
        model = database.rooms.find_one({"_id": room_id}) or {}
        more = [model | {"_id": f"{number:032x}", "bookingId": f"{number}"} for number in range(ROOMS)]
        database.rooms.insert_many([{**room, "lastSeq": 0, "lastMessage": None} for room in more])
        database.members.delete_one({"roomId": room_id, "userId": other.id})
        database.database.update_one({}, {"$set": {"version": 2}})
        one, other = await restart(process, town_at, one, other)
        assert f"room members upgrade rooms={ROOMS + 1} completed={2 * ROOMS + 1}" in process.log()
        assert (await one.room(room_id))["user1Id"] == one.id
        assert (await other.send(room_id))["seq"] == 2
        chats, cursor = 0, {}
        while cursor is not None:
            page = await other.chats(limit=100, **cursor)
            chats += len(page["chats"])
            cursor = {"cursor": page["nextCursor"]} if page["nextCursor"] else None
        assert chats == ROOMS + 1
        database.members.delete_one({"roomId": room_id, "userId": other.id})
        one, other = await restart(process, town_at, one, other)
        assert (await other.get(f"{MESSAGES}/chat-rooms/{room_id}")).status == 404, "who is removed later stays out"


async def test_sync_lists_rooms_that_one_came_into_while_it_was_read(tmp_path: Path) -> None:
    """An answer that was begun before, and comes after the event, would say that the room is not one's own."""
    sets = [f"data_dir={tmp_path / 'data'}", "limits.enabled=false"]
    async with open_context(load(ROOT / "config.yaml", sets, {})) as context, contextlib.AsyncExitStack() as busy:
        ann, bob = await seed_people(context._stores.database, 2)
        for _ in range(READERS):
            await busy.enter_async_context(context.sync._log.slot(bob))
        asked = asyncio.ensure_future(context.sync.catch_up(bob, SyncRequest(rooms={})))
        await asyncio.sleep(0)
        room = await context.chat_list.create_group(ann, GroupRequest(type="GROUP", name="Yard", user_ids=[bob]))
        await busy.aclose()
        assert [synced.room_id for synced in (await asked).rooms] == [room[0].id]
        await context.drain()


async def test_marks_wait_for_a_membership_that_is_not_stored_yet(tmp_path: Path) -> None:
    """As after a crash between a notice and its members: whoever reads at once keeps the mark."""
    sets = [f"data_dir={tmp_path / 'data'}", "limits.enabled=false"]
    async with open_context(load(ROOT / "config.yaml", sets, {})) as context:
        store = context._stores.members
        await store.save_marks([Member("room", "bob", sent=2, last_delivered_seq=9, read=Position(9, 2, 1))])
        assert await store.of_rooms(["room"]) == await store.of_user("bob") == []
        (early,) = await store.find_former("room", ["bob", "ann"])
        assert (early.user_id, early.read, early.sent) == ("bob", Position(9, 2, 1), 2)
        await store.save_memberships([Member("room", "bob", role="ADMIN", changed_seq=3, read=Position(5, 1, 1))], [])
        (member,) = await store.of_rooms(["room"])
        assert (member.role, member.changed_seq, member.read) == ("ADMIN", 3, Position(9, 2, 1))
        assert await store.find_former("room", ["bob"]) == []
        await store.save_marks([Member("room", "bob", read=Position(11, 2, 1))])
        assert (await store.of_user("bob"))[0].read.seq == 11
        await context.drain()
