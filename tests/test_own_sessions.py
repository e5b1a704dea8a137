"""A person's own sessions and password: where they are logged in, and how they end that."""

import asyncio
from typing import Any

import pytest

from tests.conftest import NO_LIMITS, StartServer
from tests.support.people import PASSWORD, Person, Town
from tests.support.rest import API, Answer
from tests.support.shapes import check_problem, check_time

SESSIONS = f"{API}/auth/sessions"
NEW_PASSWORD = "another long password"


async def log_in(town: Town, person: Person, password: str = PASSWORD, **options: Any) -> Answer:
    body = {"email": person.user["email"], "password": password}
    return await town.rest.call("POST", f"{API}/auth/login", body, **options)


async def again(town: Town, person: Person, **options: Any) -> Person:
    """The same person in another session."""
    answer = await log_in(town, person, **options)
    assert answer.status == 200, answer
    return Person(town, answer.body["user"], answer.body["accessToken"], answer.body["refreshToken"])


async def sessions(person: Person) -> list[dict[str, Any]]:
    answer = await person.get(SESSIONS)
    assert answer.status == 200, answer
    return list(answer.body["sessions"])


async def change(person: Person, old: str = PASSWORD, new: str = NEW_PASSWORD) -> Answer:
    return await person.post(f"{API}/auth/password", {"oldPassword": old, "newPassword": new})


async def test_they_are_listed_the_last_used_first(town: Town) -> None:
    here = await town.person()
    there = await again(town, here, headers={"User-Agent": "A phone"})
    listed = await sessions(here)
    assert [session["isCurrent"] for session in listed] == [False, True]
    assert (listed[0]["userAgent"], listed[0]["address"]) == ("A phone", "127.0.0.1")
    for session in listed:
        check_time(session["createdAt"])
        assert session["lastUsedAt"] >= session["createdAt"]
    renewed = await town.rest.call("POST", f"{API}/auth/refresh", {"refreshToken": here.refresh_token})
    assert renewed.status == 200
    after = await sessions(here)
    assert after[0]["isCurrent"] and after[0]["lastUsedAt"] > listed[1]["lastUsedAt"], "a refresh is a use"
    assert await sessions(await town.person()) != await sessions(there), "nobody sees those of others"


async def test_ending_one_ends_its_tokens_and_sockets_and_no_others(town: Town) -> None:
    here = await town.person()
    there = await again(town, here)
    near, far = await here.connect(), await there.connect()
    other = next(session for session in await sessions(here) if not session["isCurrent"])
    assert (await here.call("DELETE", f"{SESSIONS}/{other['id']}")).status == 204
    assert (await far.next("exception"))["code"] == "UNAUTHORIZED"
    await far.disconnected()
    check_problem(await there.get(f"{API}/users/me"), "UNAUTHORIZED")
    dead = await town.rest.call("POST", f"{API}/auth/refresh", {"refreshToken": there.refresh_token})
    check_problem(dead, "UNAUTHORIZED")
    await near.round_trip()
    assert [session["isCurrent"] for session in await sessions(here)] == [True]
    check_problem(await here.call("DELETE", f"{SESSIONS}/{other['id']}"), "NOT_FOUND")


async def test_those_of_others_are_not_there(town: Town) -> None:
    one, other = await town.people(2)
    theirs = (await sessions(other))[0]["id"]
    refused = await one.call("DELETE", f"{SESSIONS}/{theirs}")
    unknown = await one.call("DELETE", f"{SESSIONS}/unknown")
    check_problem(refused, "NOT_FOUND")
    assert refused.body == unknown.body
    assert (await other.get(SESSIONS)).status == 200


async def test_another_password_ends_all_other_sessions(town: Town) -> None:
    here = await town.person()
    there = await again(town, here)
    near, far = await here.connect(), await there.connect()
    assert (await change(here)).status == 204
    await far.disconnected()
    await near.round_trip()
    check_problem(await there.get(f"{API}/users/me"), "UNAUTHORIZED")
    assert [session["isCurrent"] for session in await sessions(here)] == [True]
    check_problem(await log_in(town, here), "UNAUTHORIZED")
    assert (await log_in(town, here, NEW_PASSWORD)).status == 200


async def test_a_wrong_or_bad_password_changes_nothing(town: Town) -> None:
    here = await town.person()
    there = await again(town, here)
    check_problem(await change(here, old="something else"), "FORBIDDEN", "oldPassword")
    check_problem(await change(here, new="short"), "VALIDATION_FAILED", "newPassword")
    check_problem(await change(here, new="x" * 1025), "VALIDATION_FAILED", "newPassword")
    assert (await there.get(SESSIONS)).status == 200 and (await log_in(town, here)).status == 200


async def test_of_two_changes_at_once_one_wins(town: Town) -> None:
    here = await town.person()
    answers = await asyncio.gather(*(change(here, new=f"{NEW_PASSWORD} {number}") for number in range(5)))
    good = [number for number, answer in enumerate(answers) if answer.status == 204]
    assert len(good) == 1, answers
    assert (await log_in(town, here, f"{NEW_PASSWORD} {good[0]}")).status == 200


@pytest.mark.parametrize("field", ["oldPassword", "newPassword"])
async def test_both_are_needed(town: Town, field: str) -> None:
    body = {"oldPassword": PASSWORD, "newPassword": NEW_PASSWORD}
    del body[field]
    here = await town.person()
    check_problem(await here.post(f"{API}/auth/password", body), "VALIDATION_FAILED", field)


async def test_guesses_at_the_old_password_are_limited(start_server: StartServer, town_at: Any) -> None:
    town = town_at(start_server({**NO_LIMITS, "limits.enabled": True, "limits.login_failures": 3}))
    here = await town.person()
    for _ in range(3):
        check_problem(await change(here, old="a guess"), "FORBIDDEN")
    check_problem(await change(here), "RATE_LIMITED")


async def test_a_login_that_began_with_the_old_password_does_not_stay(town: Town) -> None:
    """However logins and the change fall together: none that the old password opened is alive afterwards."""
    here = await town.person()
    logins = [log_in(town, here) for _ in range(6)]
    changed, *opened = await asyncio.gather(change(here), *logins)
    assert changed.status == 204
    for answer in opened:
        if answer.status == 200:
            late = Person(town, answer.body["user"], answer.body["accessToken"], "")
            check_problem(await late.get(SESSIONS), "UNAUTHORIZED")
