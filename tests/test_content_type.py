"""Content types of bodies: JSON or none is accepted, anything else is refused."""

import json

import pytest

from tests.conftest import Residents
from tests.support.people import Town
from tests.support.raw_http import ask, request
from tests.support.rest import API, MESSAGES
from tests.support.shapes import check_problem

JSON = (
    *("application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8", "APPLICATION/JSON"),
    *("application/vnd.api+json", "application/merge-patch+json", ""),
)
OTHERS = (
    *("text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"),
    *("application/jsonp", "json", "text/json", "application/xml", "application/json, text/plain"),
)


@pytest.mark.parametrize("media_type", JSON)
async def test_json_by_any_of_its_names(town: Town, residents: Residents, media_type: str) -> None:
    alice = town.resident(residents.alice)
    answer = await alice.call("PATCH", f"{API}/users/me", {"phone": "1"}, headers={"Content-Type": media_type})
    assert answer.status == 200, answer


async def test_a_body_that_says_nothing_of_itself_is_tried(town: Town, residents: Residents) -> None:
    headers = {"Authorization": f"Bearer {residents.alice.access_token}"}
    answer = await ask(town.url, request("PATCH", f"{API}/users/me", headers, b'{"phone": "1"}'))
    assert answer.status == 200, answer


@pytest.mark.parametrize("media_type", OTHERS)
async def test_another_type_is_refused(town: Town, residents: Residents, media_type: str) -> None:
    headers = {"Authorization": f"Bearer {residents.alice.access_token}", "Content-Type": media_type}
    for body in (b'{"phone": "1"}', b"phone=1"):
        answer = await ask(town.url, request("PATCH", f"{API}/users/me", headers, body))
        assert (answer.status, json.loads(answer.body)["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE"), answer


async def test_where_no_body_is_read_none_is_judged(town: Town) -> None:
    person = await town.person()
    headers = {"Content-Type": "text/plain"}
    assert (await person.call("GET", f"{API}/users/me", headers=headers)).status == 200
    answer = await person.call("POST", f"{API}/auth/logout", b"bye", headers=headers)
    assert answer.status == 204, answer


async def test_no_body_is_not_a_wrong_one(town: Town, residents: Residents) -> None:
    alice = town.resident(residents.alice)
    path = f"{MESSAGES}/chats/{residents.room_id}/read"
    answer = await alice.call("POST", path, b"", headers={"Content-Type": "text/plain"})
    check_problem(answer, "VALIDATION_FAILED")


async def test_who_asks_and_how_much_come_first(town: Town, residents: Residents) -> None:
    plain, path = {"Content-Type": "text/plain"}, f"{API}/users/me"
    check_problem(await town.rest.call("PATCH", path, b"{}", headers=plain), "UNAUTHORIZED")
    check_problem(await town.rest.call("PUT", path, b"{}", headers=plain), "METHOD_NOT_ALLOWED")
    alice = town.resident(residents.alice)
    check_problem(await alice.call("PATCH", path, b" " * 200_000, headers=plain), "PAYLOAD_TOO_LARGE")
    check_problem(await alice.call("PATCH", path, b"{", headers=plain), "UNSUPPORTED_MEDIA_TYPE")
