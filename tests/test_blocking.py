"""Blocking: neither of a pair hears from or sees the other, and the one who is blocked is not told."""

import asyncio
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support import groups
from tests.support.people import Person, Town, unique
from tests.support.rest import API, MESSAGES, Answer
from tests.support.shapes import check_problem, check_refused

ROOMS = f"{MESSAGES}/chat-rooms"


async def block(one: Person, other: Person, method: str = "POST") -> Answer:
    answer = await one.call(method, f"{API}/users/{other.id}/block")
    assert answer.status == 204, answer
    return answer


async def unblock(one: Person, other: Person) -> None:
    await block(one, other, "DELETE")


async def blocked(person: Person) -> list[str]:
    answer = await person.get(f"{API}/users/blocked")
    assert answer.status == 200 and answer.body["total"] == len(answer.body["users"]), answer
    return [user["id"] for user in answer.body["users"]]


async def send(person: Person, room_id: str, **fields: Any) -> Answer:
    return await person.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": "x", **fields})


def check_blocked(answer: Answer) -> None:
    check_problem(answer, "FORBIDDEN")
    assert answer.body["reason"] == "BLOCKED"


async def test_neither_can_send_in_a_direct_room(town: Town) -> None:
    one, other, room_id = await town.pair()
    message = await one.send(room_id)
    theirs = await other.send(room_id)
    await block(one, other)
    for person in (one, other):
        check_blocked(await send(person, room_id))
        device = await person.connect()
        ack = await device.call("message:send", {"roomId": room_id, "content": "x"})
        check_refused(ack, "FORBIDDEN")
        assert ack["error"]["reason"] == "BLOCKED"
    assert (await one.room(room_id))["lastSeq"] == 2, "nothing was stored"
    await unblock(one, other)
    for person in (one, other):
        assert (await send(person, room_id)).status == 201
    assert message["seq"] == 1 and theirs["seq"] == 2


async def test_nor_reach_the_other_by_changing_what_was_said(town: Town) -> None:
    one, other, room_id = await town.pair()
    mine = (await other.send(room_id))["messageId"]
    await block(one, other)
    check_blocked(await other.call("PATCH", f"{MESSAGES}/{mine}", {"content": "read this"}))
    check_blocked(await other.call("PUT", f"{MESSAGES}/{mine}/reactions/%F0%9F%91%8D"))
    check_blocked(await other.call("PUT", f"{MESSAGES}/{mine}/pin"))
    assert (await other.call("DELETE", f"{MESSAGES}/{mine}")).status == 200, "taking it back is no word"


async def test_a_repeat_of_what_was_stored_is_still_answered(town: Town) -> None:
    one, other, room_id = await town.pair()
    first = await send(other, room_id, clientMessageId="once")
    await block(one, other)
    again = await send(other, room_id, clientMessageId="once")
    assert (again.status, again.body["messageId"]) == (200, first.body["messageId"])
    ack = await (await other.connect()).call(
        "message:send", {"roomId": room_id, "content": "x", "clientMessageId": "once"}
    )
    assert ack["message"]["messageId"] == first.body["messageId"]
    check_blocked(await send(other, room_id, clientMessageId="another"))


async def test_no_new_room_but_the_old_one_is_there(town: Town) -> None:
    one, other, room_id = await town.pair()
    device = await one.connect()
    await block(one, other)
    for person, peer in ((one, other), (other, one)):
        check_blocked(await person.post(ROOMS, {"otherUserId": peer.id, "bookingId": "another"}))
        again = await person.post(ROOMS, {"otherUserId": peer.id})
        assert (again.status, again.body["id"]) == (200, room_id)
    await device.round_trip()
    assert device.heard("room:new") == []


async def test_neither_sees_the_others_presence(quick_town: Town) -> None:
    one, other, room_id = await quick_town.pair()
    mine, theirs = await one.connect(), await other.connect()
    await mine.call("presence:get", {"userIds": [other.id], "watch": True})
    await mine.next("user:online")
    seen_before = len(mine.heard("user:online"))
    await block(one, other)
    assert (await mine.next("user:offline"))["userId"] == other.id
    assert (await theirs.next("user:offline"))["userId"] == one.id
    for person, peer, device in ((one, other, mine), (other, one, theirs)):
        answer = await device.call("presence:get", {"userIds": [peer.id]})
        assert answer["presence"] == [{"userId": peer.id, "isOnline": False, "lastSeenAt": None}]
        assert (await person.chat(room_id))["isOnline"] is False
        profile = (await person.get(f"{API}/users/{peer.id}")).body
        assert (profile["isOnline"], profile["lastSeenAt"]) == (False, None)
    await theirs.leave()
    theirs = await other.connect()
    await mine.round_trip()
    assert len(mine.heard("user:online")) == seen_before
    await unblock(one, other)
    assert (await theirs.next("user:online"))["userId"] == one.id
    await mine.round_trip()
    assert mine.heard("user:online")[seen_before:] == [{"userId": other.id}]
    assert (await one.chat(room_id))["isOnline"] is True


async def test_neither_sees_the_other_type(town: Town) -> None:
    one, other, room_id = await town.pair()
    third = await town.person()
    group_id = await groups.make(one, other, third)
    mine, theirs, thirds = await one.connect(), await other.connect(), await third.connect()
    await theirs.call("typing:start", {"roomId": room_id})
    await mine.next("typing:start")
    await block(one, other)
    await mine.next("typing:stop")
    for device in (mine, theirs):
        for room in (room_id, group_id):
            assert (await device.call("typing:start", {"roomId": room}))["ok"]
    assert {(await thirds.next("typing:start"))["userId"] for _ in range(2)} == {one.id, other.id}
    for device in (mine, theirs):
        await device.round_trip()
    assert len(mine.heard("typing:start")) == 1 and theirs.heard("typing:start") == []


async def test_neither_sees_the_others_receipts(town: Town) -> None:
    one, other, room_id = await town.pair()
    third = await town.person()
    group_id = await groups.make(one, other, third)
    direct, message = await one.send(room_id), await one.send(group_id)
    mine = await one.connect()
    await block(one, other)
    for room, sent in ((room_id, direct), (group_id, message)):
        read = await other.post(f"{MESSAGES}/chats/{room}/read", {"messageId": sent["messageId"]})
        assert read.status == 200
    await third.post(f"{MESSAGES}/chats/{group_id}/read", {"messageId": message["messageId"]})
    assert (await mine.next("message:read"))["userId"] == third.id
    assert len(mine.heard("message:read")) == 1
    for room in (room_id, group_id):
        marks = {member["userId"]: member["lastReadSeq"] for member in (await one.room(room))["members"]}
        assert marks[other.id] == 0
    lines = (await one.get(f"{ROOMS}/{group_id}/members")).body["members"]
    assert {line["user"]["id"]: line["lastReadSeq"] for line in lines}[other.id] == 0
    receipts = (await one.get(f"{MESSAGES}/{message['messageId']}/receipts")).body
    assert receipts == {"readCount": 1, "deliveredCount": 1, "readBy": [{"userId": third.id}]}
    assert [entry["isRead"] for entry in (await one.history(room_id))["messages"]] == [False]
    latest = (await one.history(group_id))["messages"][0]
    assert latest["isRead"] is True, "everybody else has read it"
    await unblock(one, other)
    assert [entry["isRead"] for entry in (await one.history(room_id))["messages"]] == [True]


async def test_who_is_blocked_does_not_find_the_other(town: Town) -> None:
    name = unique("Name")
    one, other = await town.person("Ann", name), await town.person("Bob", name)
    third = await town.person("Cy", name)

    async def found(person: Person) -> tuple[set[str], int]:
        answer = await person.get(f"{API}/users/search", q=name)
        return {user["id"] for user in answer.body["users"]}, answer.body["total"]

    await block(one, other)
    assert await found(other) == ({third.id}, 1)
    assert await found(one) == ({other.id, third.id}, 2), "to lift the block again"
    await unblock(one, other)
    assert await found(other) == ({one.id, third.id}, 2)


async def test_in_groups_both_stay_and_hear_each_other(town: Town) -> None:
    one, other = await town.people(2)
    room_id = await groups.make(one, other)
    mine, theirs = await one.connect(), await other.connect()
    await block(one, other)
    await other.send(room_id, "to all")
    assert (await mine.next("message:new"))["content"] == "to all", "the client decides what it shows"
    await one.send(room_id, "to all too")
    assert (await theirs.next("message:new", lambda m: m["senderId"] == one.id))["content"] == "to all too"


async def test_who_is_blocked_cannot_bring_the_other_into_a_group(town: Town) -> None:
    one, other, third = await town.people(3)
    await block(one, other)
    refused = await other.post(ROOMS, {"type": "GROUP", "name": "Yard", "userIds": [third.id, one.id]})
    check_problem(refused, "VALIDATION_FAILED", "userIds.1")
    room_id = await groups.make(other, third)
    refused = await other.post(f"{ROOMS}/{room_id}/members", {"userIds": [one.id]})
    check_problem(refused, "VALIDATION_FAILED", "userIds.0")
    unknown = await other.post(f"{ROOMS}/{room_id}/members", {"userIds": ["unknown"]})
    assert refused.body == unknown.body, "nobody is told that they are blocked"
    assert (await other.room(room_id))["memberCount"] == 2


async def test_the_list_and_its_changes(town: Town) -> None:
    one, other, third = await town.people(3)
    phone, laptop = await one.connect(), await one.connect()
    assert await blocked(one) == []
    assert await phone.call("user:block", {"userId": other.id}) == {"ok": True}
    assert await laptop.next("user:blocked") == {"userId": other.id, "isBlocked": True}
    await block(one, third)
    await block(one, third)
    assert set(await blocked(one)) == {other.id, third.id} and await blocked(other) == []
    ack = await phone.call("blocked:get")
    assert (ack["ok"], ack["total"], {user["id"] for user in ack["users"]}) == (True, 2, {other.id, third.id})
    assert await phone.call("user:unblock", {"userId": other.id}) == {"ok": True}
    await unblock(one, other)
    assert await blocked(one) == [third.id]
    for device in (phone, laptop):
        await device.round_trip()
    assert [entry["isBlocked"] for entry in laptop.heard("user:blocked")] == [True, True, False]
    assert [entry["isBlocked"] for entry in phone.heard("user:blocked")] == [True]


async def test_both_may_block_and_each_lifts_their_own(town: Town) -> None:
    one, other, room_id = await town.pair()
    await asyncio.gather(block(one, other), block(other, one))
    await unblock(one, other)
    check_blocked(await send(one, room_id))
    await unblock(other, one)
    assert (await send(one, room_id)).status == 201


async def test_oneself_and_nobody_cannot_be_blocked(town: Town) -> None:
    one = await town.person()
    check_problem(await one.call("POST", f"{API}/users/{one.id}/block"), "VALIDATION_FAILED", "userId")
    check_problem(await one.call("POST", f"{API}/users/unknown/block"), "NOT_FOUND")
    assert (await one.call("DELETE", f"{API}/users/unknown/block")).status == 204


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
async def test_blocks_survive_the_server(start_server: StartServer, town_at: Any, is_killed: bool) -> None:
    server = start_server()
    town = town_at(server)
    one, other, room_id = await town.pair()
    third = await town.person()
    await block(one, other)
    await block(one, third)
    await unblock(one, third)
    if is_killed:
        server.kill()
    else:
        server.stop()
    server.start()
    town = town_at(server)
    check_blocked(await send(town.resident(other), room_id))
    assert await blocked(town.resident(one)) == [other.id]


async def test_nothing_that_was_sent_after_the_block_arrives(town: Town) -> None:
    """Messages race with the block: whatever is sent after its answer is refused, and none is acknowledged and lost."""
    one, other, room_id = await town.pair()
    device = await other.connect()
    sends = [
        asyncio.ensure_future(device.call("message:send", {"roomId": room_id, "content": str(n)})) for n in range(50)
    ]
    await block(one, other)
    check_blocked(await send(other, room_id))
    stored = [ack["message"]["seq"] for ack in await asyncio.gather(*sends) if ack["ok"]]
    assert (await one.room(room_id))["lastSeq"] == len(stored)
