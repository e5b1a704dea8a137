"""Accounts over REST: registration, login, the profile, and other people."""

import asyncio
import statistics
import time
from typing import Any

import pytest

from tests.support.people import PASSWORD, Town, unique
from tests.support.rest import API, Answer
from tests.support.shapes import USER_KEYS, check_problem

REGISTER = f"{API}/auth/register"
LOGIN = f"{API}/auth/login"
ME = f"{API}/users/me"
CONCURRENT = 10


def request(**fields: Any) -> dict[str, Any]:
    return {"email": f"{unique('a')}@example.com", "password": PASSWORD, "firstName": "Jo", "lastName": "Doe", **fields}


async def login(town: Town, email: str, password: str = PASSWORD) -> Answer:
    return await town.rest.call("POST", LOGIN, {"email": email, "password": password})


async def test_a_registration_answers_with_user_and_tokens(town: Town) -> None:
    fields = request(phone="+82 10-1234-5678", userType="GUEST", profileImage="https://example.com/p.png")
    answer = await town.rest.call("POST", REGISTER, fields)
    assert answer.status == 201, answer
    body = answer.body
    assert body.keys() >= {"user", "accessToken", "refreshToken", "tokenType", "expiresIn"}
    assert (body["tokenType"], body["expiresIn"]) == ("Bearer", 24 * 3600)
    user = body["user"]
    assert user.keys() == USER_KEYS
    assert {key: user[key] for key in fields if key != "password"} == {
        key: value for key, value in fields.items() if key != "password"
    }
    assert (user["fullName"], user["trustScore"], user["isOnline"], user["lastSeenAt"]) == ("Jo Doe", None, False, None)
    mine = await town.rest.call("GET", ME, token=body["accessToken"])
    assert (mine.status, mine.body) == (200, user)


async def test_a_login_finds_the_account_whatever_the_case(town: Town) -> None:
    email = f"{unique('Case')}@Example.com"
    made = await town.rest.call("POST", REGISTER, request(email=f"  {email} "))
    assert made.body["user"]["email"] == email.lower()
    answer = await login(town, email.upper())
    assert answer.status == 200, answer
    assert answer.body["user"] == made.body["user"]
    assert answer.body.keys() == made.body.keys()


async def test_a_taken_email_is_refused_under_any_concurrency(town: Town) -> None:
    email = f"{unique('taken')}@example.com"
    calls = (town.rest.call("POST", REGISTER, request(email=name)) for name in [email, email.upper()] * CONCURRENT)
    answers = await asyncio.gather(*calls)
    assert sorted(answer.status for answer in answers) == [201] + [409] * (2 * CONCURRENT - 1)
    check_problem(next(answer for answer in answers if answer.status == 409), "CONFLICT")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "no address"),
        ("email", "two@at@example.com"),
        ("email", "@example.com"),
        ("email", f"{'x' * 250}@example.com"),
        ("password", "seven77"),
        ("password", "x" * 1025),
        ("firstName", "  "),
        ("firstName", "\u200b"),
        ("lastName", ""),
        ("lastName", "x" * 101),
        ("firstName", "line\nbreak"),
        ("phone", "call me"),
        ("phone", "1" * 33),
        ("userType", "admin"),
        ("userType", "moderator"),
        ("profileImage", "javascript:alert(1)"),
        ("profileImage", "https://bank.example@example.com/p.png"),
        ("profileImage", "https://example.com/\u202egnp.exe"),
        ("profileImage", "/etc/passwd"),
        ("profileImage", "/uploads/../secret"),
        ("profileImage", f"https://example.com/{'x' * 2048}"),
    ],
)
async def test_a_bad_field_is_named_and_nothing_is_made(town: Town, field: str, value: str) -> None:
    fields = request()
    check_problem(await town.rest.call("POST", REGISTER, {**fields, field: value}), "VALIDATION_FAILED", field)
    assert (await login(town, fields["email"])).status == 401


async def test_names_come_back_as_they_were_written(town: Town) -> None:
    for first, last in [("민준", "김"), ("Ада", "Лавлейс"), ("👩‍🚀", "O'Brien"), ("عمر", "الخيام")]:
        person = await town.person(first, last)
        assert (person.user["firstName"], person.user["lastName"], person.name) == (first, last, f"{first} {last}")


async def test_passwords_are_compared_as_characters_not_as_bytes(town: Town) -> None:
    fields = request(password="p\u00e4ssword\u1112\u1161\u11ab")
    assert (await town.rest.call("POST", REGISTER, fields)).status == 201
    assert (await login(town, fields["email"], "pa\u0308ssword\ud55c")).status == 200
    assert (await login(town, fields["email"], "passwordhan")).status == 401


async def test_a_wrong_login_says_the_same_for_known_and_unknown(town: Town) -> None:
    person = await town.person()
    known = await login(town, person.user["email"], "wrong password")
    unknown = await login(town, f"{unique('nobody')}@example.com", "wrong password")
    no_address = await login(town, "nobody", "wrong password")
    for answer in (known, unknown, no_address):
        check_problem(answer, "UNAUTHORIZED")
    assert known.body == unknown.body == no_address.body


async def test_a_wrong_login_takes_the_same_time_for_known_and_unknown(town: Town) -> None:
    person = await town.person()
    emails = {"known": person.user["email"], "unknown": f"{unique('nobody')}@example.com"}
    times: dict[str, list[float]] = {"known": [], "unknown": []}
    for _ in range(15):
        for kind, email in emails.items():
            begun = time.perf_counter()
            await login(town, email, "wrong password")
            times[kind].append(time.perf_counter() - begun)
    # Without a hash for unknown emails the ratio is about 10.
    ratio = statistics.median(times["known"]) / statistics.median(times["unknown"])
    assert 0.4 < ratio < 2.5, times


async def test_a_profile_is_patched_field_by_field(town: Town) -> None:
    person, other = await town.people(2)
    patched = await person.call("PATCH", ME, {"firstName": " Ann ", "phone": "010-555", "email": "ignored@example.com"})
    assert patched.status == 200, patched
    expected = {**person.user, "firstName": "Ann", "phone": "010-555", "fullName": f"Ann {person.user['lastName']}"}
    assert patched.body == expected
    assert (await other.get(f"{API}/users/{person.id}")).body == {**expected, "email": "", "phone": None}
    cleared = await person.call("PATCH", ME, {"phone": None, "profileImage": ""})
    assert cleared.body == {**expected, "phone": None}
    assert (await person.call("PATCH", ME, {})).body == cleared.body
    assert (await person.get(ME)).body == cleared.body


@pytest.mark.parametrize("field", ["firstName", "lastName"])
async def test_a_name_cannot_be_cleared(town: Town, field: str) -> None:
    person = await town.person()
    for value in (None, "", " "):
        check_problem(await person.call("PATCH", ME, {field: value}), "VALIDATION_FAILED", field)
    assert (await person.get(ME)).body == person.user


async def test_concurrent_patches_all_arrive(town: Town) -> None:
    person = await town.person()
    patches = [{"firstName": "Concurrent"}, {"lastName": "Patch"}, {"phone": "1234567"}] * 3
    answers = await asyncio.gather(*(person.call("PATCH", ME, patch) for patch in patches))
    assert {answer.status for answer in answers} == {200}
    mine = (await person.get(ME)).body
    assert (mine["firstName"], mine["lastName"], mine["phone"]) == ("Concurrent", "Patch", "1234567")


async def test_a_new_name_is_seen_on_the_next_message(town: Town) -> None:
    one, other, room_id = await town.pair()
    assert (await one.send(room_id))["senderName"] == one.name
    await one.call("PATCH", ME, {"firstName": "Renamed"})
    assert (await one.send(room_id))["senderName"] == f"Renamed {one.user['lastName']}"
    assert (await other.chat(room_id))["participantName"] == f"Renamed {one.user['lastName']}"


async def test_a_user_by_id(town: Town) -> None:
    one, other = await town.people(2)
    answer = await one.get(f"{API}/users/{other.id}")
    assert (answer.status, answer.body) == (200, {**other.user, "email": "", "phone": None})
    check_problem(await one.get(f"{API}/users/{unique()}"), "NOT_FOUND")
