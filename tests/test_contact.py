"""Who sees an email and a phone number, and whom they find (`profiles.contact`)."""

from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import StartServer
from tests.support import groups
from tests.support.people import Person, Town
from tests.support.rest import API, MESSAGES

SEARCH = f"{API}/users/search"


async def with_phone(town: Town) -> Person:
    return await town.person(phone=f"+82 10-{str(uuid4().int)[:4]}-{str(uuid4().int)[:8]}")


async def sees(viewer: Person, person: Person) -> bool:
    """Whether the viewer sees the contact of the person, alike wherever profiles are shown."""
    contact = {"email": person.user["email"], "phone": person.user["phone"]}
    profile = (await viewer.get(f"{API}/users/{person.id}")).body
    (found,) = (await viewer.get(SEARCH, q=person.id)).body["users"]
    views = [{name: view[name] for name in contact} for view in (profile, found)]
    assert views in ([contact] * 2, [{"email": "", "phone": None}] * 2), views
    return views[0] == contact


async def finds(viewer: Person, query: str, person: Person, limit: int = 20) -> bool:
    """Whether the query finds just this person, or nobody."""
    answer = (await viewer.get(SEARCH, q=query, limit=limit)).body
    found = [user["id"] for user in answer["users"]]
    assert answer["total"] == len(found) and found in ([], [person.id]), answer
    return bool(found)


def digits(person: Person) -> str:
    return "".join(character for character in person.user["phone"] if character.isdigit())


def whole_queries(person: Person) -> list[str]:
    """The email and the phone, as people would type them."""
    phone = digits(person)
    return [person.user["email"], person.user["email"].upper(), person.user["phone"], phone, f"0{phone[2:]}"]


def partial_queries(person: Person) -> list[str]:
    return [person.user["email"][:-1], person.user["phone"][:-1], digits(person)[:-1]]


async def test_strangers_see_neither_and_find_whole_ones_only(town: Town) -> None:
    viewer, person = await town.person(), await with_phone(town)
    assert not await sees(viewer, person)
    for query in whole_queries(person):
        assert await finds(viewer, query, person), query
    for query in partial_queries(person):
        assert not await finds(viewer, query, person), query


async def test_own_ones_are_always_seen(town: Town) -> None:
    person = await with_phone(town)
    for path in (f"{API}/users/me", f"{API}/users/{person.id}"):
        body = (await person.get(path)).body
        assert (body["email"], body["phone"]) == (person.user["email"], person.user["phone"])
    changed = await person.call("PATCH", f"{API}/users/me", {"firstName": "Ann"})
    assert changed.body["email"] == person.user["email"]


async def test_who_shares_a_direct_room_sees_both_and_finds_beginnings(town: Town) -> None:
    viewer, person = await town.person(), await with_phone(town)
    await viewer.open_room(person)
    assert await sees(viewer, person) and await sees(person, viewer)
    for query in (*whole_queries(person), *partial_queries(person)):
        assert await finds(viewer, query, person), query


async def test_who_shares_a_group_sees_both_until_they_leave(town: Town) -> None:
    viewer, person, stranger = await town.person(), await with_phone(town), await town.person()
    room_id = await groups.make(viewer, person)
    members = (await viewer.get(f"{MESSAGES}/chat-rooms/{room_id}/members")).body["members"]
    assert person.user["email"] in [member["user"]["email"] for member in members]
    assert await sees(viewer, person) and not await sees(stranger, person)
    assert await finds(viewer, partial_queries(person)[0], person)
    assert (await groups.remove(person, room_id, person.id)).status == 204
    assert not await sees(viewer, person)
    assert not await finds(viewer, partial_queries(person)[0], person)


async def test_a_block_hides_them(town: Town) -> None:
    one, other = await with_phone(town), await with_phone(town)
    await one.open_room(other)
    assert (await one.post(f"{API}/users/{other.id}/block", {})).status == 204
    assert not await sees(one, other)
    profile = (await other.get(f"{API}/users/{one.id}")).body
    assert (profile["email"], profile["phone"]) == ("", None)
    for query in (*whole_queries(one), *partial_queries(one)):
        assert not await finds(other, query, one), query
    assert not await finds(one, partial_queries(other)[0], other)


async def test_whom_a_name_and_an_email_find_counts_once(town: Town) -> None:
    viewer, word = await town.person(), "w" + uuid4().hex[:12]
    person, namesake = await town.person(word, email=f"{word}@example.com"), await town.person(word)
    for is_sharing in (False, True):
        if is_sharing:
            await viewer.open_room(person)
        for limit in (1, 20):
            answer = (await viewer.get(SEARCH, q=word, limit=limit)).body
            assert answer["total"] == 2 and len(answer["users"]) == min(limit, 2), answer
        assert {user["id"] for user in answer["users"]} == {person.id, namesake.id}
    found = (await viewer.get(SEARCH, q=f"{word}@example.com")).body
    assert [user["id"] for user in found["users"]] == [person.id] and found["total"] == 1


@pytest.mark.parametrize("rule", ["everybody", "nobody"])
async def test_the_other_rules(start_server: StartServer, town_at: Any, rule: str) -> None:
    town: Town = town_at(start_server({"profiles.contact": rule}))
    viewer, person, stranger = await town.person(), await with_phone(town), await town.person()
    await viewer.open_room(person)
    for one in (viewer, stranger):
        assert await sees(one, person) == (rule == "everybody")
        for query in whole_queries(person):
            assert await finds(one, query, person), query
        for query in partial_queries(person):
            assert await finds(one, query, person) == (rule == "everybody"), query
