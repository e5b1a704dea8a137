"""Concurrent changes of one profile: each is applied once, and their rate is limited."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from server.services.search.index import UserIndex
from tests.conftest import StartServer
from tests.support.people import Person, Town
from tests.support.rest import API, Answer
from tests.support.shapes import check_problem
from tests.test_costs import serving

CHANGES = 6
FEW = 4


def long_name(number: int) -> str:
    """100 different Han characters: a name has a key in the search index for each."""
    return "".join(chr(0x4E00 + 100 * number + place) for place in range(100))


async def change_often(person: Person, names: list[str]) -> list[Answer]:
    calls = [person.call("PATCH", f"{API}/users/me", {"firstName": name, "lastName": "김"}) for name in names]
    return list(await asyncio.gather(*calls))


async def test_each_change_is_planned_once_however_many_come_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[str] = []
    plan = UserIndex.plan

    async def counted(index: UserIndex, user: Any, indexed: Any) -> Any:
        planned.append(user.first_name)
        return await plan(index, user, indexed)

    async with serving(tmp_path) as (_context, port):
        town = Town(f"http://127.0.0.1:{port}")
        try:
            person, other = await town.people(2)
            monkeypatch.setattr(UserIndex, "plan", counted)
            names = [long_name(number) for number in range(CHANGES)]
            answers = await change_often(person, names)
            assert {answer.status for answer in answers} == {200}
            assert sorted(planned) == sorted(names)
            stands = (await person.get(f"{API}/users/me")).body["firstName"]
            assert stands in names
            for query, is_found in ((stands[40:60], True), (names[names.index(stands) - 1][40:60], False)):
                found = (await other.get(f"{API}/users/search", q=query)).body
                assert found["total"] == int(is_found), query
        finally:
            await town.close()


async def test_changes_of_a_profile_are_limited(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"limits.enabled": True, "limits.profile_changes_per_minute": FEW}))
    person, other = await town.people(2)
    answers = await change_often(person, [f"Jo{number}" for number in range(2 * FEW)])
    refused = [answer for answer in answers if answer.status != 200]
    assert FEW - 1 <= len(refused) <= FEW
    for answer in refused:
        check_problem(answer, "RATE_LIMITED")
    assert (await change_often(other, ["Jo"]))[0].status == 200
