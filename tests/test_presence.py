"""Presence and typing: several devices, the grace time, leases that outlive a killed server, typing that stops."""

import asyncio
import json
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.device import POLLING, Device
from tests.support.people import Person, Town
from tests.support.shapes import check_refused, check_time
from tests.support.waiting import eventually, go_offline

NEVER_BY_ITSELF = {"typing.timeout": "30m"}
POLLING_PATH = "/socket.io/?EIO=4&transport=polling"


def of(person: Person) -> Any:
    return lambda told: told["userId"] == person.id


async def presence_of(device: Device, *people: Person) -> list[dict[str, Any]]:
    ack = await device.call("presence:get", {"userIds": [person.id for person in people]})
    assert ack["ok"], ack
    assert [entry["userId"] for entry in ack["presence"]] == [person.id for person in people]
    return list(ack["presence"])


async def test_only_the_first_and_the_last_device_are_told(quick_town: Town) -> None:
    one, other, _room = await quick_town.pair()
    witness = await one.connect()
    first = await other.connect()
    assert await witness.next("user:online") == {"userId": other.id}
    second = await other.connect(POLLING)
    await first.leave()
    assert (await presence_of(witness, other))[0]["isOnline"] is True
    await second.leave()
    told = await witness.next("user:offline")
    assert told["userId"] == other.id
    check_time(told["lastSeenAt"])
    assert (len(witness.heard("user:online")), len(witness.heard("user:offline"))) == (1, 1)
    shown = (await presence_of(witness, other))[0]
    assert (shown["isOnline"], shown["lastSeenAt"]) == (False, told["lastSeenAt"])
    profile = (await one.get(f"/api/v1/users/{other.id}")).body
    assert (profile["isOnline"], profile["lastSeenAt"]) == (False, told["lastSeenAt"])


async def test_a_device_that_vanishes_is_missed_like_one_that_leaves(quick_town: Town) -> None:
    one, other, _room = await quick_town.pair()
    witness, device = await one.connect(), await other.connect()
    await device.vanish()
    assert (await witness.next("user:offline"))["userId"] == other.id


async def test_who_enters_and_leaves_in_one_request_is_not_there(quick_town: Town) -> None:
    one, other, room_id = await quick_town.pair()
    witness = await one.connect()
    opened = await quick_town.rest.call("GET", POLLING_PATH)
    path = f"{POLLING_PATH}&sid={json.loads(opened.raw[1:])['sid']}"
    packets = f"40/chat,{json.dumps({'token': other.access_token})}\x1e41/chat,".encode()
    answer = await quick_town.rest.call("POST", path, packets, headers={"Content-Type": "text/plain"})
    assert answer.status == 200, answer

    async def is_offline() -> bool:
        return (await presence_of(witness, other))[0]["isOnline"] is False

    await eventually(is_offline, "the visitor is offline")
    # Nobody holds the place of the visitor, so that a message waits for them.
    await one.send(room_id, "waiting")
    device = await other.connect()
    assert [message["content"] for message in await device.next("messages:offline")] == ["waiting"]


async def test_strangers_are_not_told(quick_town: Town) -> None:
    one, other, _room = await quick_town.pair()
    stranger = await (await quick_town.person()).connect()
    witness, device = await one.connect(), await other.connect()
    await go_offline(other, device, witness)
    await stranger.round_trip()
    assert [heard.event for heard in stranger.history] == []


async def test_nobody_is_told_of_themselves(quick_town: Town) -> None:
    one, other, _room = await quick_town.pair()
    witness, device = await one.connect(), await other.connect()
    await witness.next("user:online", of(other))
    await device.round_trip()
    assert [told for told in device.heard("user:online") if of(other)(told)] == []


async def test_who_comes_back_within_the_grace_time_was_never_away(town: Town) -> None:
    """A third person leaves at the same moment for good: their `user:offline` says that the grace time is over."""
    witness, flapper, leaver = await town.people(3)
    for person in (flapper, leaver):
        await witness.open_room(person)
    ear, flapping, leaving = await witness.connect(), await flapper.connect(), await leaver.connect()
    for person in (flapper, leaver):
        await ear.next("user:online", of(person))
    await flapping.leave()
    await leaving.leave()
    back = await flapper.connect()
    assert (await presence_of(ear, flapper))[0]["isOnline"] is True
    await ear.next("user:offline", of(leaver))
    await back.round_trip()
    assert [told for told in ear.heard("user:offline") if of(flapper)(told)] == []
    assert len([told for told in ear.heard("user:online") if of(flapper)(told)]) == 1


async def test_presence_of_people_who_were_never_here(town: Town) -> None:
    one, other, _room = await town.pair()
    device = await one.connect()
    shown = (await presence_of(device, other))[0]
    assert (shown["isOnline"], shown["lastSeenAt"]) == (False, None)
    assert (await presence_of(device, one))[0]["isOnline"] is True


@pytest.mark.parametrize("is_long", [False, True], ids=["restarted at once", "away for longer than the lease"])
async def test_a_killed_server_leaves_nobody_online(start_server: StartServer, town_at: Any, is_long: bool) -> None:
    server = start_server({"presence.lease": "4s", "presence.grace": "200ms", "sweep.interval": "500ms"})
    one, other, _room = await town_at(server).pair()
    ear = await one.connect()
    await other.connect()
    await ear.next("user:online", of(other))
    server.kill()
    if is_long:
        await asyncio.sleep(5)  # longer than the lease: time itself is what is tested
    server.restart()
    town: Town = town_at(server)
    witness = await town.resident(one).connect()
    await witness.next("user:offline", of(other))
    away, here = await presence_of(witness, other, one)
    assert (away["isOnline"], here["isOnline"]) == (False, True)
    check_time(away["lastSeenAt"])


async def test_typing_reaches_the_others_only(town: Town) -> None:
    one, other, room_id = await town.pair()
    typing, mine = await one.connect(), await one.connect()
    joined, unjoined = await other.connect(), await other.connect()
    stranger = await (await town.person()).connect()
    for device in (typing, joined):
        assert (await device.call("room:join", {"roomId": room_id}))["ok"]
    for event in ("typing:start", "typing:stop"):
        assert await typing.call(event, {"roomId": room_id}) == {"ok": True}
        for device in (joined, unjoined):
            assert await device.next(event) == {"roomId": room_id, "userId": one.id}
    for device in (typing, mine, stranger):
        await device.round_trip()
        assert device.heard("typing:start") + device.heard("typing:stop") == []


async def test_typing_stops_by_itself(quick_town: Town) -> None:
    one, other, room_id = await quick_town.pair()
    typing, ear = await one.connect(), await other.connect()
    for _ in range(3):
        await typing.call("typing:start", {"roomId": room_id})
    assert await ear.next("typing:stop") == {"roomId": room_id, "userId": one.id}
    await typing.call("typing:start", {"roomId": room_id})
    assert await ear.next("typing:stop") == {"roomId": room_id, "userId": one.id}
    assert len(ear.heard("typing:stop")) <= len(ear.heard("typing:start"))


async def test_a_message_ends_its_writers_typing(start_server: StartServer, town_at: Any) -> None:
    one, other, room_id = await town_at(start_server(NEVER_BY_ITSELF)).pair()
    typing, ear = await one.connect(), await other.connect()
    await typing.call("typing:start", {"roomId": room_id})
    await ear.next("typing:start")
    await one.send(room_id)
    assert await ear.next("typing:stop") == {"roomId": room_id, "userId": one.id}


async def test_leaving_ends_typing(start_server: StartServer, town_at: Any) -> None:
    one, other, room_id = await town_at(start_server(NEVER_BY_ITSELF)).pair()
    typing, ear = await one.connect(), await other.connect()
    await typing.call("typing:start", {"roomId": room_id})
    await ear.next("typing:start")
    await typing.vanish()
    assert await ear.next("typing:stop") == {"roomId": room_id, "userId": one.id}


async def test_a_stop_is_told_also_if_the_server_knows_of_no_start(town: Town) -> None:
    """The start may have been before the server's own."""
    one, other, room_id = await town.pair()
    typing, ear = await one.connect(), await other.connect()
    assert await typing.call("typing:stop", {"roomId": room_id}) == {"ok": True}
    assert await ear.next("typing:stop") == {"roomId": room_id, "userId": one.id}
    await one.send(room_id, "fence")
    await ear.next("message:new")
    assert len(ear.heard("typing:stop")) == 1


async def test_typing_in_a_strangers_room_is_not_found(town: Town) -> None:
    _one, other, room_id = await town.pair()
    ear = await other.connect()
    stranger = await (await town.person()).connect()
    for event in ("typing:start", "typing:stop"):
        check_refused(await stranger.call(event, {"roomId": room_id}), "NOT_FOUND")
    await ear.round_trip()
    assert ear.heard("typing:start") == []


async def test_search_and_profiles_show_who_is_online(quick_town: Town) -> None:
    one, other, _room = await quick_town.pair()
    device, witness = await other.connect(), await one.connect()

    async def shown_online() -> set[bool]:
        found = (await one.get("/api/v1/users/search", q=other.user["email"])).body["users"]
        assert [user["id"] for user in found] == [other.id]
        return {found[0]["isOnline"], (await one.get(f"/api/v1/users/{other.id}")).body["isOnline"]}

    assert await shown_online() == {True}
    await go_offline(other, device, witness)

    async def offline() -> bool:
        return await shown_online() == {False}

    await eventually(offline, "the profile and the search show it")
