"""Groups: making them, their members and roles, notices, what joining and leaving show and hide, unread counts."""

import asyncio
from typing import Any

import pytest
from tornado.simple_httpclient import HTTPStreamClosedError

from server.failpoints import VARIABLE as FAILPOINT
from tests.conftest import StartServer
from tests.support.groups import ROOMS, chat, make, notices, people, remove
from tests.support.people import Person, Town, unique
from tests.support.rest import API, MESSAGES, Answer
from tests.support.shapes import check_problem


async def test_a_group_is_made_told_and_used(town: Town) -> None:
    ann, bob, cho = await people(town, 3)
    devices = [await bob.connect(), await cho.connect()]
    room_id = await make(ann, bob, cho, description="  of us ", clientRoomId="one")
    for device in devices:
        told = await device.next("room:new")
        assert told["id"] == room_id and told["type"] == "GROUP" and told["myRole"] == "MEMBER"
        notice = await device.next("message:new")
        assert notice["type"] == "NOTICE" and notice["notice"]["kind"] == "CREATED" and notice["seq"] == 1
    await ann.send(room_id, "Hello, all!")
    for device in devices:
        assert (await device.next("message:new"))["content"] == "Hello, all!"
    room = (await ann.get(f"{ROOMS}/{room_id}")).body
    assert room["name"] == "Yard" and room["description"] == "of us" and room["memberCount"] == 3
    assert (room["user1Id"], room["user2Id"], room["bookingId"]) == (None, None, None)
    assert (room["members"][0]["userId"], room["members"][0]["role"]) == (ann.id, "OWNER")
    assert {one["role"] for one in room["members"][1:]} == {"MEMBER"}
    line = await chat(bob, room_id)
    assert line["participantId"] is None and line["participantName"] == "Yard" and line["type"] == "GROUP"
    assert line["unreadCount"] == 1 and line["lastSenderName"] == ann.name
    again = await ann.post(ROOMS, {"type": "GROUP", "name": "Other", "clientRoomId": "one"})
    assert again.status == 200 and again.body["id"] == room_id and again.body["name"] == "Yard"


async def test_bad_groups_are_named_and_nothing_is_made(town: Town) -> None:
    ann, bob = await people(town, 2)
    unknown = "0" * 32
    for body, path in [
        ({"type": "GROUP"}, "name"),
        ({"type": "GROUP", "name": None}, "name"),
        ({"type": "GROUP", "name": "  "}, "name"),
        ({"type": "GROUP", "name": "x" * 101}, "name"),
        ({"type": "GROUP", "name": "a\nb"}, "name"),
        ({"type": "GROUP", "name": "x", "description": "x" * 1001}, "description"),
        ({"type": "GROUP", "name": "x", "image": "javascript:x"}, "image"),
        ({"type": "GROUP", "name": "x", "visibility": "MAYBE"}, "visibility"),
        ({"type": "GROUP", "name": "x", "userIds": [bob.id, unknown]}, "userIds.1"),
        ({"type": "GROUP", "name": "x", "userIds": "x"}, "userIds"),
        ({"type": "ROOM", "name": "x"}, "type"),
        ({"otherUserId": None}, "otherUserId"),
    ]:
        answer = await ann.post(ROOMS, body)
        check_problem(answer, "VALIDATION_FAILED")
        assert [error["path"] for error in answer.body["errors"]] == [path], body
    assert (await ann.get(f"{MESSAGES}/chats")).body["chats"] == []


async def test_members_come_and_go(town: Town) -> None:
    ann, bob, cho, dan = await people(town, 4)
    room_id = await make(ann, bob)
    await ann.send(room_id, "before")
    device = await cho.connect()
    answer = await ann.post(f"{ROOMS}/{room_id}/members", {"userIds": [cho.id, bob.id]})
    assert answer.status == 200 and answer.body == {"added": [cho.id], "members": 3}
    told = await device.next("room:new")
    assert told["id"] == room_id and told["memberCount"] == 3
    assert (await device.next("message:new"))["notice"] == {"kind": "ADDED", "userIds": [cho.id]}
    assert (await chat(cho, room_id))["unreadCount"] == 0
    history = await cho.history(room_id, after=0)
    assert [message["seq"] for message in history["messages"]] == [3], "nothing from before they joined"
    assert history["pagination"]["totalItems"] == 1
    await bob.send(room_id, "after")
    assert (await device.next("message:new"))["content"] == "after"
    assert (await chat(cho, room_id))["unreadCount"] == 1
    assert (await remove(ann, room_id, cho.id)).status == 204
    assert await device.next("room:removed") == {"roomId": room_id, "reason": "REMOVED"}
    await ann.send(room_id, "without")
    await device.round_trip()
    assert "without" not in [message["content"] for message in device.heard("message:new")]
    assert await chat(cho, room_id) == {}
    for answer in (
        await cho.get(f"{ROOMS}/{room_id}"),
        await cho.get(f"{MESSAGES}/chats/{room_id}/messages"),
        await cho.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": "x"}),
        await cho.get(f"{ROOMS}/{room_id}/members"),
        await remove(cho, room_id, "me"),
    ):
        check_problem(answer, "NOT_FOUND")
    kinds = [notice["kind"] for notice in await notices(ann, room_id)]
    assert kinds == ["CREATED", "ADDED", "REMOVED"]
    unknown = await ann.post(f"{ROOMS}/{room_id}/members", {"userIds": [dan.id, "0" * 32]})
    check_problem(unknown, "VALIDATION_FAILED")
    assert (await ann.get(f"{ROOMS}/{room_id}")).body["memberCount"] == 2, "nobody was added"


async def test_who_may_do_what(town: Town) -> None:
    ann, bob, cho, dan = await people(town, 4)
    room_id = await make(ann, bob, cho)
    members = f"{ROOMS}/{room_id}/members"

    async def give(who: Person, whom: Person, role: str) -> Answer:
        return await who.call("PATCH", f"{members}/{whom.id}", {"role": role})

    check_problem(await give(bob, cho, "ADMIN"), "FORBIDDEN")
    check_problem(await bob.post(members, {"userIds": [dan.id]}), "FORBIDDEN")
    check_problem(await bob.call("PATCH", f"{ROOMS}/{room_id}", {"name": "x"}), "FORBIDDEN")
    check_problem(await bob.call("DELETE", f"{ROOMS}/{room_id}"), "FORBIDDEN")
    check_problem(await remove(bob, room_id, cho.id), "FORBIDDEN")
    assert (await give(ann, bob, "ADMIN")).status == 200
    check_problem(await give(bob, ann, "MEMBER"), "FORBIDDEN")
    check_problem(await give(bob, cho, "OWNER"), "FORBIDDEN")
    check_problem(await remove(bob, room_id, ann.id), "FORBIDDEN")
    check_problem(await bob.call("DELETE", f"{ROOMS}/{room_id}"), "FORBIDDEN")
    assert (await give(bob, cho, "ADMIN")).status == 200
    check_problem(await remove(bob, room_id, cho.id), "FORBIDDEN")
    check_problem(await give(ann, ann, "ADMIN"), "CONFLICT")
    check_problem(await give(ann, dan, "ADMIN"), "NOT_FOUND")
    renamed = await bob.call("PATCH", f"{ROOMS}/{room_id}", {"name": " Barn ", "image": "https://x.example/a.png"})
    assert renamed.status == 200 and renamed.body["name"] == "Barn" and renamed.body["myRole"] == "ADMIN"
    told = await notices(cho, room_id)
    assert told[-1] == {"kind": "RENAMED", "name": "Barn"}
    assert (await bob.call("PATCH", f"{ROOMS}/{room_id}", {"name": "Barn"})).status == 200
    assert await notices(cho, room_id) == told, "what is the same changes nothing"
    direct = await ann.open_room(dan)
    for answer in (
        await ann.call("PATCH", f"{ROOMS}/{direct}", {"name": "x"}),
        await ann.call("DELETE", f"{ROOMS}/{direct}"),
        await ann.post(f"{ROOMS}/{direct}/members", {"userIds": [bob.id]}),
        await ann.post(f"{ROOMS}/{direct}/join", {}),
        await remove(ann, direct, "me"),
    ):
        check_problem(answer, "CONFLICT")


async def test_ownership_is_inherited_and_the_last_one_ends_the_room(town: Town) -> None:
    ann, bob, cho = await people(town, 3)
    room_id = await make(ann, bob, cho)
    assert (await ann.call("PATCH", f"{ROOMS}/{room_id}/members/{cho.id}", {"role": "ADMIN"})).status == 200
    device = await bob.connect()
    assert (await remove(ann, room_id, "me")).status == 204
    changed = await device.next("member:changed", lambda told: told["userId"] == cho.id)
    assert changed == {"roomId": room_id, "userId": cho.id, "role": "OWNER"}
    assert (await cho.get(f"{ROOMS}/{room_id}")).body["myRole"] == "OWNER"
    assert (await remove(cho, room_id, "me")).status == 204
    assert (await bob.get(f"{ROOMS}/{room_id}")).body["myRole"] == "OWNER"
    assert (await remove(bob, room_id, "me")).status == 204
    check_problem(await bob.get(f"{ROOMS}/{room_id}"), "NOT_FOUND")


async def test_a_deleted_room_is_gone_for_everybody(start_server: StartServer, town_at: Any) -> None:
    server = start_server({"sweep.interval": "200ms"})
    town: Town = town_at(server)
    ann, bob = await people(town, 2)
    room_id = await make(ann, bob)
    sent = await ann.send(room_id, "gone")
    device = await bob.connect()
    assert (await ann.call("DELETE", f"{ROOMS}/{room_id}")).status == 204
    assert await device.next("room:removed") == {"roomId": room_id, "reason": "DELETED"}
    for _ in range(2):
        check_problem(await ann.get(f"{ROOMS}/{room_id}"), "NOT_FOUND")
        check_problem(await ann.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": "x"}), "NOT_FOUND")
        read = await bob.post(f"{MESSAGES}/chats/{room_id}/read", {"messageId": sent["messageId"]})
        check_problem(read, "NOT_FOUND")
        assert await chat(bob, room_id) == {}
        server.kill()
        server.restart()
        town = town_at(server)
        ann, bob = town.resident(ann), town.resident(bob)


async def test_an_open_room_shows_everything_to_who_joins(town: Town) -> None:
    ann, bob, cho = await people(town, 3)
    room_id = await make(ann, visibility="OPEN")
    for text in ("one", "two"):
        await ann.send(room_id, text)
    joined = await bob.post(f"{ROOMS}/{room_id}/join", {})
    assert joined.status == 200 and joined.body["myRole"] == "MEMBER" and joined.body["history"] == "ALL"
    assert [message["content"] for message in (await bob.history(room_id, after=0))["messages"]][1:3] == ["one", "two"]
    assert (await chat(bob, room_id))["unreadCount"] == 2
    closed = await make(ann)
    check_problem(await cho.post(f"{ROOMS}/{closed}/join", {}), "NOT_FOUND")
    mine = await bob.send(room_id, "mine")
    assert (await chat(bob, room_id))["unreadCount"] == 2, "sending reads nothing"
    assert (await remove(bob, room_id, "me")).status == 204
    await ann.send(room_id, "three")
    assert (await bob.post(f"{ROOMS}/{room_id}/join", {})).status == 200
    assert (await chat(bob, room_id))["unreadCount"] == 3, "own messages of before do not count"
    await bob.post(f"{MESSAGES}/chats/{room_id}/read", {"messageId": mine["messageId"]})
    assert (await chat(bob, room_id))["unreadCount"] == 1


async def test_counts_and_members_survive_kills(start_server: StartServer, town_at: Any) -> None:
    server = start_server()
    town: Town = town_at(server)
    ann, bob, cho = await people(town, 3)
    room_id = await make(ann, bob)
    for number in range(3):
        await ann.send(room_id, f"{number}")
    third = await bob.send(room_id, "by Bob")
    await ann.post(f"{ROOMS}/{room_id}/members", {"userIds": [cho.id]})
    await cho.send(room_id, "by Cho")
    await ann.call("PATCH", f"{ROOMS}/{room_id}", {"name": "Barn"})
    before = [await chat(person, room_id) for person in (ann, bob, cho)]
    assert [line["unreadCount"] for line in before] == [2, 4, 0]
    server.kill()
    server.restart()
    ann, bob, cho = (town_at(server).resident(person) for person in (ann, bob, cho))
    assert [await chat(person, room_id) for person in (ann, bob, cho)] == before
    await bob.post(f"{MESSAGES}/chats/{room_id}/read", {"messageId": third["messageId"]})
    assert (await chat(bob, room_id))["unreadCount"] == 1
    await remove(ann, room_id, cho.id)
    server.kill()
    server.restart()
    ann, bob, cho = (town_at(server).resident(person) for person in (ann, bob, cho))
    check_problem(await cho.get(f"{ROOMS}/{room_id}"), "NOT_FOUND")
    assert (await bob.get(f"{ROOMS}/{room_id}")).body["name"] == "Barn"


async def test_who_was_added_before_a_crash_finds_the_room_at_once(start_server: StartServer, town_at: Any) -> None:
    """The notice is stored and the membership is not: whoever asks before it is must not be remembered without it."""
    server = start_server()
    ann, bob = await people(town_at(server), 2)
    room_id = await make(ann)
    server.stop()
    server.environment[FAILPOINT] = "after-insert"
    server.start()
    with pytest.raises(HTTPStreamClosedError):
        await town_at(server).resident(ann).post(f"{ROOMS}/{room_id}/members", {"userIds": [bob.id]})
    del server.environment[FAILPOINT]
    server.kill()
    server.start()
    assert (await chat(town_at(server).resident(bob), room_id))["participantName"] == "Yard"


async def test_members_come_by_pages(town: Town) -> None:
    ann, *others = await people(town, 5)
    room_id = await make(ann, *others)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await ann.get(f"{ROOMS}/{room_id}/members", **query)).body
        assert page["total"] == 5
        seen += [line["user"]["id"] for line in page["members"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert seen[0] == ann.id and sorted(seen) == sorted(person.id for person in (ann, *others))
    check_problem(await ann.get(f"{ROOMS}/{room_id}/members", cursor="x"), "VALIDATION_FAILED")
    assert (await ann.get(f"{ROOMS}/{room_id}/members", q=unique("nobody"))).body["members"] == []


@pytest.mark.parametrize("bound", ["rooms.max_members", "receipts.max_members"])
async def test_bounds_of_members(start_server: StartServer, town_at: Any, bound: str) -> None:
    server = start_server({bound: 2})
    town: Town = town_at(server)
    ann, bob, cho = await people(town, 3)
    if bound == "rooms.max_members":
        room_id = await make(ann, bob)
        answer = await ann.post(f"{ROOMS}/{room_id}/members", {"userIds": [cho.id]})
        check_problem(answer, "CONFLICT")
        assert "rooms.max_members" in answer.body["detail"]
        return
    room_id = await make(ann, bob, cho)
    sent = await ann.send(room_id, "x")
    devices = [await ann.connect(), await bob.connect(), await bob.connect()]
    assert (await devices[1].call("message:read", {"messageId": sent["messageId"]}))["ok"]
    assert (await devices[2].next("message:read"))["userId"] == bob.id
    assert (await devices[1].call("typing:start", {"roomId": room_id}))["ok"]
    await devices[0].round_trip()
    assert devices[0].heard("message:read") == devices[0].heard("typing:start") == []
    last = (await ann.history(room_id, after=0))["messages"][-1]
    assert last["isRead"] is True, "somebody else has read it"
    assert (await ann.get(f"{API}/users/me")).status == 200


async def test_two_owners_who_leave_at_once_leave_an_owner(town: Town) -> None:
    ann, bob, cho = await people(town, 3)
    room_id = await make(ann, bob, cho)
    assert (await ann.call("PATCH", f"{ROOMS}/{room_id}/members/{bob.id}", {"role": "OWNER"})).status == 200
    answers = await asyncio.gather(*(remove(person, room_id, "me") for person in (ann, bob)))
    assert [answer.status for answer in answers] == [204, 204]
    assert (await cho.get(f"{ROOMS}/{room_id}")).body["myRole"] == "OWNER"


async def test_whoever_is_removed_writes_nothing_after_that(town: Town) -> None:
    ann, bob = await people(town, 2)
    room_id = await make(ann, bob)
    device = await bob.connect()
    sends = [
        asyncio.create_task(device.call("message:send", {"roomId": room_id, "content": f"{number}"}))
        for number in range(200)
    ]
    assert (await remove(ann, room_id, bob.id)).status == 204
    answers = await asyncio.gather(*sends)
    history: list[dict[str, Any]] = []
    while True:
        page = await ann.history(room_id, after=len(history), limit=200)
        history += page["messages"]
        if not page["pagination"]["hasNext"]:
            break
    removed_at = next(one["seq"] for one in history if one["type"] == "NOTICE" and one["notice"]["kind"] == "REMOVED")
    stored = [answer["message"]["seq"] for answer in answers if answer["ok"]]
    assert all(seq < removed_at for seq in stored)
    assert {answer["error"]["code"] for answer in answers if not answer["ok"]} <= {"NOT_FOUND"}
    assert [one["seq"] for one in history if one["senderId"] == bob.id] == stored


async def test_calls_that_race_with_a_removal_are_answered_or_find_nothing(town: Town) -> None:
    ann, bob = await people(town, 2)
    room_id = await make(ann, bob)
    sent = [await ann.send(room_id, f"{number}") for number in range(20)]
    device = await bob.connect()
    messages = f"{MESSAGES}/chats/{room_id}"
    calls = [
        call
        for message in sent
        for call in (
            bob.post(f"{messages}/read", {"messageId": message["messageId"]}),
            bob.get(f"{messages}/messages"),
            bob.get(f"{ROOMS}/{room_id}"),
            bob.get(f"{MESSAGES}/chats"),
        )
    ]
    syncs = [device.call("sync", {"rooms": {room_id: 0}}) for _ in sent]
    removal = asyncio.create_task(remove(ann, room_id, bob.id))
    answers, acks = await asyncio.gather(asyncio.gather(*calls), asyncio.gather(*syncs))
    assert (await removal).status == 204
    assert {answer.status for answer in answers} <= {200, 404}
    assert {ack["error"]["code"] for ack in acks if not ack["ok"]} <= {"NOT_FOUND"}
    await device.next("room:removed")
    await device.round_trip()
    last = [heard.event for heard in device.history if isinstance(heard.data, dict) and "roomId" in heard.data][-1]
    assert last == "room:removed"
