"""Rate limits: guessing passwords, floods from one address or user, and that other users are not affected."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from server.errors import RateLimited, Unavailable
from server.services.accounts import passwords
from server.services.accounts.passwords import Passwords
from tests.conftest import StartServer
from tests.support.people import PASSWORD, Person, Town, unique
from tests.support.rest import API, MESSAGES, Answer
from tests.support.shapes import check_problem
from tests.support.uploads import form, post_form

LOGIN = f"{API}/auth/login"
REFRESH = f"{API}/auth/refresh"
CONCURRENT = 10
GUESSES = 3
FEW = 3
MANY = 6
FLOOD = 150
OFFICE = 100
FLOODER = {"X-Forwarded-For": "203.0.113.1"}


BEHIND_PROXY = {"limits.enabled": True, "server.trusted_proxies": ["127.0.0.1"]}
WRONG = "wrong password"
HOME = "198.51.100.7"
# A counter is looked at by as many at once as there are threads.
SLIPPED = passwords.HASHING_THREADS - 1


async def login(town: Town, email: str, password: str = PASSWORD, address: str | None = None) -> Answer:
    headers = {} if address is None else {"X-Forwarded-For": address}
    return await town.rest.call("POST", LOGIN, {"email": email, "password": password}, headers=headers)


async def guess(town: Town, email: str, times: int) -> list[int]:
    """The sorted statuses of so many wrong logins at once."""
    answers = await asyncio.gather(*(login(town, email, WRONG) for _ in range(times)))
    return sorted(answer.status for answer in answers)


async def test_guessing_is_limited_for_each_account(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"limits.enabled": True, "limits.login_failures": GUESSES}))
    victim, other = await town.people(2)
    cut_off = [401] * GUESSES + [429] * (CONCURRENT - GUESSES)
    assert await guess(town, victim.user["email"], CONCURRENT) == cut_off
    check_problem(await login(town, victim.user["email"]), "RATE_LIMITED")
    assert await guess(town, f"{unique('nobody')}@example.com", CONCURRENT) == cut_off
    # Another account is not concerned, and a success begins anew.
    for _ in range(GUESSES):
        assert await guess(town, other.user["email"], GUESSES - 1) == [401] * (GUESSES - 1)
        assert (await login(town, other.user["email"])).status == 200
    assert (await victim.get(f"{API}/users/me")).status == 200, "who is logged in stays so"


async def test_one_account_is_guessed_at_from_many_addresses(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({**BEHIND_PROXY, "limits.account_login_failures": MANY}))
    owner, other = await town.people(2)
    assert (await login(town, owner.user["email"], address=HOME)).status == 200
    abroad = {"X-Forwarded-For": "198.51.100.8"}
    assert (await town.rest.call("POST", REFRESH, {"refreshToken": owner.refresh_token}, headers=abroad)).status == 200
    for email in (owner.user["email"], f"{unique('nobody')}@example.com"):
        guesses = (login(town, email, WRONG, f"203.0.113.{number}") for number in range(4 * MANY))
        statuses = Counter(answer.status for answer in await asyncio.gather(*guesses))
        assert statuses.keys() == {401, 429}, "an account that is not there answers alike"
        assert MANY <= statuses[401] <= MANY + SLIPPED
    refused = await login(town, owner.user["email"], address="203.0.113.77")
    check_problem(refused, "RATE_LIMITED")
    assert int(refused.headers["Retry-After"]) > 60, "this one is slow"
    for known in (HOME, abroad["X-Forwarded-For"]):
        assert (await login(town, owner.user["email"], WRONG, known)).status == 401
        assert (await login(town, owner.user["email"], address=known)).status == 200, "never the owner at home"
    assert (await login(town, other.user["email"], address="203.0.113.77")).status == 200


async def test_one_address_guesses_at_many_accounts(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({**BEHIND_PROXY, "limits.address_login_failures": MANY}))
    people = await town.people(4 * MANY)
    neighbour = people[0]
    assert (await login(town, neighbour.user["email"], address=HOME)).status == 200
    guesses = (login(town, person.user["email"], WRONG, HOME) for person in people[1:])
    statuses = Counter(answer.status for answer in await asyncio.gather(*guesses))
    assert statuses.keys() == {401, 429}
    assert MANY <= statuses[401] <= MANY + SLIPPED
    check_problem(await login(town, people[-1].user["email"], address=HOME), "RATE_LIMITED")
    assert (await login(town, people[-1].user["email"], address="198.51.100.9")).status == 200
    # Who is known there gets in by the right password, but is not guessed at for long.
    assert (await login(town, neighbour.user["email"], address=HOME)).status == 200
    assert (await login(town, neighbour.user["email"], WRONG, HOME)).status == 401
    check_problem(await login(town, neighbour.user["email"], WRONG, HOME), "RATE_LIMITED")


async def test_one_line_of_ipv6_is_one_address(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({**BEHIND_PROXY, "limits.login_failures": GUESSES}))
    email = (await town.person()).user["email"]
    addresses = [f"2001:db8:1:2:{number:x}::1" for number in range(CONCURRENT)]
    answers = await asyncio.gather(*(login(town, email, WRONG, address) for address in addresses))
    assert sorted(answer.status for answer in answers) == [401] * GUESSES + [429] * (CONCURRENT - GUESSES)
    assert (await login(town, email, address="2001:db8:1:3::1")).status == 200


async def test_many_logins_at_once_are_no_guesses(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"limits.enabled": True, "limits.login_failures": GUESSES}))
    person = await town.person()
    answers = await asyncio.gather(*(login(town, person.user["email"]) for _ in range(CONCURRENT)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body["refreshToken"] for answer in answers}) == CONCURRENT


async def test_a_flood_from_one_address_delays_nobody_elsewhere(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({**BEHIND_PROXY, "limits.address_login_failures": 2 * FLOOD}))
    person = await town.person()
    answered: list[int] = []

    async def flood() -> None:
        fields = {"email": f"{unique('nobody')}@example.com", "password": PASSWORD}
        answered.append((await town.rest.call("POST", LOGIN, fields, headers=FLOODER)).status)

    flooding = [asyncio.create_task(flood()) for _ in range(FLOOD)]
    # Sent before the honest one, because tasks begin in this order.
    honest = asyncio.create_task(login(town, person.user["email"]))
    assert (await honest).status == 200
    assert len(answered) < FLOOD / 2, "one hash or two of the flood are what it waits for, once it is there"
    await asyncio.gather(*flooding)
    assert answered == [401] * FLOOD


async def test_an_office_logs_in_at_once(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"limits.enabled": True}))
    people = await town.people(OFFICE)
    answers = await asyncio.gather(*(login(town, person.user["email"]) for person in people))
    assert {answer.status for answer in answers} == {200}


async def test_logins_that_wait_are_bounded_for_each_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MAX_WAITING_PER_ADDRESS", GUESSES)
    monkeypatch.setattr(passwords, "MAX_WAITING", 2 * GUESSES)
    for is_limited, refusal in (True, RateLimited), (False, Unavailable):
        bounded = Passwords(is_limited=is_limited)

        async def make(bounded: Passwords = bounded) -> str:
            async with bounded.turn("here") as hashing:
                return await hashing.hash("x")

        most = passwords.HASHING_THREADS + (GUESSES if is_limited else 2 * GUESSES)
        made = await asyncio.gather(*(make() for _ in range(most + 2)), return_exceptions=True)
        assert [isinstance(one, str) for one in made] == [True] * most + [False] * 2
        assert {type(one) for one in made[most:]} == {refusal}
        bounded.close()


async def test_registrations_and_searches_are_limited(start_server: StartServer, town_at: Any) -> None:
    settings = {"limits.enabled": True, "limits.registrations_per_hour": GUESSES, "limits.searches": 1}
    town: Town = town_at(start_server(settings))
    people: list[Person] = [await town.person() for _ in range(GUESSES)]
    fields = {"email": f"{unique()}@example.com", "password": PASSWORD, "firstName": "Jo", "lastName": "Doe"}
    check_problem(await town.rest.call("POST", f"{API}/auth/register", fields), "RATE_LIMITED")
    searches = [people[0].get(f"{API}/users/search", q="doe") for _ in range(CONCURRENT)]
    answers = await asyncio.gather(*searches)
    assert {answer.status for answer in answers} == {200, 429}
    check_problem(next(answer for answer in answers if answer.status == 429), "RATE_LIMITED")
    assert (await people[1].get(f"{API}/users/search", q="doe")).status == 200


async def test_new_rooms_are_limited_and_old_ones_are_not(start_server: StartServer, town_at: Any) -> None:
    process = start_server({"limits.enabled": True, "limits.rooms_per_hour": FEW})
    one, other = await town_at(process).people(2)
    rooms = {booking: await one.open_room(other, booking) for booking in map(str, range(FEW))}
    refused = await one.post(f"{MESSAGES}/chat-rooms", {"otherUserId": other.id, "bookingId": unique()})
    check_problem(refused, "RATE_LIMITED")
    assert len((await other.chats())["chats"]) == FEW
    process.stop()
    process.restart()  # the rooms are not in memory now
    town = town_at(process)
    one, other = town.resident(one), town.resident(other)
    assert {booking: await one.open_room(other, booking) for booking in rooms} == rooms
    assert (await one.post(f"{MESSAGES}/chat-rooms", {"otherUserId": other.id})).status == 429, "still counted"
    assert await other.open_room(one), "the limit is of the one who makes it"


async def test_uploads_are_limited(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"limits.enabled": True, "limits.uploads_per_minute": FEW}))
    sender, other = await town.people(2)
    answers = await asyncio.gather(*(post_form(sender, form(b"x")) for _ in range(FEW + 2)))
    assert sorted(answer.status for answer in answers) == [201] * FEW + [429] * 2
    for answer in answers:
        if answer.status != 201:
            check_problem(answer, "RATE_LIMITED")
    assert (await post_form(other, form(b"x"))).status == 201


async def test_a_long_message_counts_as_several(start_server: StartServer, town_at: Any) -> None:
    """By its bytes, and never as more than may be sent at once."""
    settings = {"limits.enabled": True, "limits.messages": 1, "limits.messages_burst": 10}
    town: Town = town_at(start_server(settings))
    one, _other, room_id = await town.pair()
    path = f"{MESSAGES}/chats/{room_id}/messages"
    assert (await one.post(path, {"content": "한" * 10_000})).status == 201, "eight of ten"
    refused = await one.post(path, {"content": "한" * 10_000})
    check_problem(refused, "RATE_LIMITED")
    assert int(refused.headers["Retry-After"]) >= 4
    assert (await one.post(path, {"content": "short"})).status == 201
    two, _other, room_id = await town.pair()
    assert (await two.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": "👩" * 10_000})).status == 201
