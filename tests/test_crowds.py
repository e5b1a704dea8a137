"""Rooms of many from outside and in crowds: open rooms, watched presence, typing, and the files of a deleted room."""

from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.groups import ROOMS, make, people
from tests.support.people import Person, Town, unique
from tests.support.rest import MESSAGES
from tests.support.shapes import check_problem
from tests.support.uploads import PDF, fetch, upload
from tests.support.waiting import eventually

OPEN = f"{MESSAGES}/open-rooms"


async def listed(person: Person, **query: Any) -> list[dict[str, Any]]:
    answer = await person.get(OPEN, **query)
    assert answer.status == 200, answer
    return list(answer.body["rooms"])


async def test_open_rooms_are_found_and_joined(town: Town) -> None:
    ann, bob = await people(town, 2)
    word = unique("yard")
    ids = [await make(ann, name=f"{letter} {word}", visibility="OPEN") for letter in ("C", "a", "B")]
    hidden = await make(ann, name=f"D {word}")
    found = await listed(bob, q=word.upper())
    assert [room["name"][0] for room in found] == ["a", "B", "C"]
    assert {room["id"] for room in found} == set(ids)
    first = found[0]
    assert (first["isMember"], first["memberCount"], first["visibility"], first["history"]) == (False, 1, "OPEN", "ALL")
    assert [room["isMember"] for room in await listed(ann, q=word)] == [True] * 3
    assert (await bob.post(f"{ROOMS}/{ids[0]}/join", {})).status == 200
    check_problem(await bob.post(f"{ROOMS}/{hidden}/join", {}), "NOT_FOUND")
    assert [room["isMember"] for room in await listed(bob, q=word)] == [False, False, True]
    await ann.call("PATCH", f"{ROOMS}/{ids[1]}", {"visibility": "PRIVATE"})
    await ann.call("PATCH", f"{ROOMS}/{hidden}", {"visibility": "OPEN", "name": f"Aa {word}"})
    await ann.call("DELETE", f"{ROOMS}/{ids[2]}")
    assert [room["name"] for room in await listed(bob, q=word)] == [f"Aa {word}", f"C {word}"]


async def test_open_rooms_come_in_pages(town: Town) -> None:
    ann, bob = await people(town, 2)
    word = unique("page")
    ids = [await make(ann, name=f"{word} {number % 3}", visibility="OPEN") for number in range(7)]
    seen: list[str] = []
    query: dict[str, Any] = {"q": word, "limit": 3}
    while True:
        page = (await bob.get(OPEN, **query)).body
        seen += [room["id"] for room in page["rooms"]]
        if page["nextCursor"] is None:
            break
        query["cursor"] = page["nextCursor"]
    assert len(seen) == 7 and set(seen) == set(ids)
    check_problem(await bob.get(OPEN, cursor="garbage"), "VALIDATION_FAILED", "cursor")
    check_problem(await bob.get(OPEN, limit="0"), "VALIDATION_FAILED", "limit")


async def test_presence_is_watched(quick_town: Town) -> None:
    ann, bob, cho = await people(quick_town, 3)
    device = await ann.connect()
    ack = await device.call("presence:get", {"userIds": [bob.id], "watch": True})
    assert [one["isOnline"] for one in ack["presence"]] == [False]
    theirs = await bob.connect()
    assert (await device.next("user:online"))["userId"] == bob.id
    await theirs.vanish()
    assert (await device.next("user:offline"))["userId"] == bob.id
    # The latest call stands.
    await device.call("presence:get", {"userIds": [cho.id], "watch": True})
    await bob.connect()
    await cho.connect()
    assert (await device.next("user:online"))["userId"] == cho.id
    assert [one["userId"] for one in device.heard("user:online")] == [bob.id, cho.id]


async def test_who_is_watched_and_shares_a_room_is_told_once(quick_town: Town) -> None:
    one, other, _room_id = await quick_town.pair()
    device = await one.connect()
    assert (await device.call("presence:get", {"userIds": [other.id], "watch": True}))["ok"]
    await other.connect()
    await device.next("user:online")
    await device.round_trip()
    assert len(device.heard("user:online")) == 1


async def test_typing_in_a_crowd_is_for_those_who_look(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"receipts.max_members": 2, "typing.timeout": "60s"}))
    ann, bob, cho = await people(town, 3)
    room_id = await make(ann, bob, cho)
    typist, looking, away = await ann.connect(), await bob.connect(), await cho.connect()
    assert (await looking.call("room:join", {"roomId": room_id}))["ok"]
    await typist.call("typing:start", {"roomId": room_id})
    assert (await looking.next("typing:start"))["userId"] == ann.id
    assert (await looking.call("room:leave", {"roomId": room_id}))["ok"]
    await typist.call("typing:stop", {"roomId": room_id})
    for device in (looking, away):
        await ann.send(room_id, "a fence")
        await device.next("message:new", lambda heard: heard["content"] == "a fence")
        assert device.heard("typing:stop") == []
    assert away.heard("typing:start") == []


@pytest.mark.parametrize("what", ["attachment", "image"])
async def test_a_deleted_room_takes_its_files_along(start_server: StartServer, town_at: Any, what: str) -> None:
    town: Town = town_at(start_server({"uploads.orphan_ttl": "1s", "sweep.interval": "100ms"}))
    ann, bob = await people(town, 2)
    file = await upload(ann, PDF, "a.pdf")
    room_id = await make(ann, bob, **({"image": file["fileUrl"]} if what == "image" else {}))
    if what == "attachment":
        await ann.send(room_id, "", attachmentUrl=file["fileUrl"])
    assert (await fetch(bob, file["fileUrl"])).status == 200
    assert (await ann.call("DELETE", f"{ROOMS}/{room_id}")).status == 204

    async def is_gone() -> bool:
        return (await fetch(bob, file["fileUrl"])).status == 404

    await eventually(is_gone, "the file is removed")
