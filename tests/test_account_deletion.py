"""Deleting one's own account: at once for everybody who looks, and finished whatever is killed meanwhile."""

import asyncio
from typing import Any

import pytest

from tests.conftest import NO_LIMITS, StartServer
from tests.support import groups
from tests.support.people import PASSWORD, Person, Town, unique
from tests.support.rest import API, MESSAGES, Answer
from tests.support.shapes import check_problem
from tests.support.waiting import eventually

ME = f"{API}/users/me"


async def delete(person: Person, password: str = PASSWORD) -> Answer:
    return await person.call("DELETE", ME, {"password": password})


async def log_in(town: Town, person: Person) -> Answer:
    body = {"email": person.user["email"], "password": PASSWORD}
    return await town.rest.call("POST", f"{API}/auth/login", body)


async def test_the_account_goes_and_its_messages_stay(town: Town) -> None:
    name = unique("Name")
    gone, other = await town.person("Ann", name, phone="+82 10-1234-5678"), await town.person()
    room_id = await gone.open_room(other)
    message = await gone.send(room_id, "what I said")
    device, theirs = await gone.connect(), await other.connect()
    assert (await delete(gone)).status == 204
    assert (await device.next("exception"))["code"] == "UNAUTHORIZED"
    await device.disconnected()
    check_problem(await gone.get(ME), "UNAUTHORIZED")
    check_problem(await log_in(town, gone), "UNAUTHORIZED")
    dead = await town.rest.call("POST", f"{API}/auth/refresh", {"refreshToken": gone.refresh_token})
    check_problem(dead, "UNAUTHORIZED")
    check_problem(await other.get(f"{API}/users/{gone.id}"), "NOT_FOUND")
    assert (await other.get(f"{API}/users/search", q=name)).body["total"] == 0
    [kept] = (await other.history(room_id))["messages"]
    assert (kept["messageId"], kept["content"], kept["senderName"]) == (
        message["messageId"],
        "what I said",
        "Deleted user",
    )
    assert (await other.chat(room_id))["participantName"] == "Deleted user"
    check_problem(await other.post(f"{MESSAGES}/chat-rooms", {"otherUserId": gone.id, "bookingId": "x"}), "NOT_FOUND")
    await theirs.round_trip()


async def test_the_email_is_free_again(town: Town) -> None:
    gone = await town.person()
    assert (await delete(gone)).status == 204
    again = await town.person(email=gone.user["email"])
    assert again.id != gone.id
    second = await town.person()
    assert (await delete(second)).status == (await delete(again)).status == 204, "many may be deleted"


async def test_groups_are_left_and_inherited(town: Town) -> None:
    gone, other, third = await town.people(3)
    name, shared = unique("Yard"), await groups.make(gone, other, third)
    await groups.make(gone, name=name, visibility="OPEN")
    device = await other.connect()
    assert (await delete(gone)).status == 204
    changed = await device.next("member:changed", lambda data: data["userId"] == gone.id)
    assert changed["role"] is None
    rooms = [await person.room(shared) for person in (other, third)]
    assert [room["memberCount"] for room in rooms] == [2, 2]
    assert {room["myRole"] for room in rooms} == {"OWNER", "MEMBER"}, "both joined at once, and one inherits"
    assert [notice["kind"] for notice in await groups.notices(other, shared)] == ["CREATED", "LEFT"]

    async def is_ended() -> bool:
        return (await third.get(f"{MESSAGES}/open-rooms", q=name)).body["rooms"] == []

    # A store that was too slow for the first try is tried again by the next sweep.
    await eventually(is_ended, "the last one to leave ends the room", deadline=90.0)


async def test_messages_may_go_too(start_server: StartServer, town_at: Any) -> None:
    town = town_at(start_server({"profiles.deleted_messages": "delete"}))
    gone, other, third = await town.people(3)
    room_id, group_id = await gone.open_room(other), await groups.make(other, gone, third)
    device = await other.connect()
    for room in (room_id, group_id):
        for _ in range(3):
            await gone.send(room, "mine")
        await other.send(room, "theirs")
    assert (await delete(gone)).status == 204
    await device.next("member:changed", lambda data: data["userId"] == gone.id)
    for room in (room_id, group_id):
        entries = [entry for entry in (await other.history(room))["messages"] if entry["type"] != "NOTICE"]
        assert [entry["content"] for entry in entries] == ["theirs", "", "", ""]
        assert [("deletedAt" in entry) for entry in entries] == [False, True, True, True]


async def test_a_wrong_password_deletes_nothing(town: Town) -> None:
    person = await town.person()
    check_problem(await delete(person, "something else"), "FORBIDDEN", "password")
    check_problem(await person.call("DELETE", ME, {}), "VALIDATION_FAILED", "password")
    assert (await person.get(ME)).status == 200 and (await log_in(town, person)).status == 200


async def test_guesses_are_limited(start_server: StartServer, town_at: Any) -> None:
    town = town_at(start_server({**NO_LIMITS, "limits.enabled": True, "limits.login_failures": 2}))
    person = await town.person()
    for _ in range(2):
        check_problem(await delete(person, "a guess"), "FORBIDDEN")
    check_problem(await delete(person), "RATE_LIMITED")


@pytest.mark.parametrize("wait", [0.0, 0.02, 0.1])
async def test_a_kill_in_between_leaves_nothing_half_done(start_server: StartServer, town_at: Any, wait: float) -> None:
    """Whatever the moment: afterwards the account is whole, or it goes to its end."""
    server = start_server({"sweep.interval": "200ms", "profiles.deleted_messages": "delete"})
    town = town_at(server)
    gone, other = await town.people(2)
    rooms = [await groups.make(other, gone) for _ in range(5)]
    for room in rooms:
        await gone.send(room, "mine")

    asking = asyncio.ensure_future(delete(gone))
    await asyncio.sleep(wait)
    server.kill()
    await asyncio.gather(asking, return_exceptions=True)
    server.start()
    town = town_at(server)
    gone, other = town.resident(gone), town.resident(other)
    if (await log_in(town, gone)).status == 200:
        assert len((await gone.chats())["chats"]) == 5
        return

    async def is_gone() -> bool:
        counts = [(await other.room(room))["memberCount"] for room in rooms]
        return counts == [1] * 5

    await eventually(is_gone, "left all groups")
    for room in rooms:
        texts = [entry["content"] for entry in (await other.history(room))["messages"] if entry["type"] == "TEXT"]
        assert texts == [""]
