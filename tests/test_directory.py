"""The other service keeps profiles true: it creates, replaces, deactivates and deletes users by a token of its own."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import NO_LIMITS, serve
from tests.support.device import Device
from tests.support.issuer import sign
from tests.support.people import Town, unique
from tests.support.rest import API, MESSAGES, Answer
from tests.support.server_process import ServerProcess
from tests.support.shapes import USER_KEYS, check_problem

SECRET = "a secret that the shop and the chat server share, and nobody else"
SETTINGS = {"auth.mode": "external", "auth.external.algorithms": ["HS256"], "auth.external.secret": SECRET}
KEEPER = sign("shop-backend", SECRET, "HS256", scope="openid users:write", aud=None)
LEE = {"firstName": "Ann", "lastName": "Lee", "email": "ann@example.com", "phone": "+82 10-1234-5678"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    yield from serve(tmp_path_factory.mktemp("directory"), {**NO_LIMITS, **SETTINGS})


@pytest.fixture
def town(town_at: Callable[[ServerProcess], Town], directory: ServerProcess) -> Town:
    return town_at(directory)


def token(user_id: str, **claims: Any) -> str:
    return sign(user_id, SECRET, "HS256", **claims)


async def put(town: Town, user_id: str, body: Any, bearer: str = KEEPER) -> Answer:
    return await town.rest.call("PUT", f"{API}/users/{user_id}", body, token=bearer)


async def get(town: Town, user_id: str) -> Answer:
    return await town.rest.call("GET", f"{API}/users/{user_id}", token=KEEPER)


async def found(town: Town, words: str) -> list[str]:
    answer = await town.rest.call("GET", f"{API}/users/search", token=KEEPER, query={"q": words})
    return [user["id"] for user in answer.body["users"]]


async def test_a_user_is_created_and_replaced(town: Town) -> None:
    user_id, name = unique("u"), unique("Name")
    made = await put(
        town, user_id, {**LEE, "userType": "VIP", "trustScore": 4.5, "profileImage": "https://a.example/x"}
    )
    assert made.status == 201 and made.body.keys() == USER_KEYS, made
    assert (made.body["id"], made.body["userType"], made.body["trustScore"]) == (user_id, "VIP", 4.5)
    again = await put(town, user_id, {"firstName": name})
    assert again.status == 200
    assert (again.body["fullName"], again.body["email"], again.body["phone"], again.body["userType"]) == (
        name,
        "",
        None,
        None,
    )
    assert (await get(town, user_id)).body == again.body
    assert await found(town, name) == [user_id], "it is found as it is now"


async def test_the_same_put_at_once_makes_one(town: Town) -> None:
    user_id = unique("u")
    answers = await asyncio.gather(*(put(town, user_id, LEE) for _ in range(6)))
    assert sorted(answer.status for answer in answers) == [200] * 5 + [201]


async def test_who_was_put_comes_in_as_the_directory_says(town: Town) -> None:
    user_id = unique("u")
    await put(town, user_id, LEE)
    answer = await town.rest.call("GET", f"{API}/users/me", token=token(user_id, given_name="Other"))
    assert answer.body["fullName"] == "Ann Lee"


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["firstName"]),
        ({"firstName": " "}, ["firstName"]),
        ({"firstName": {"$ne": ""}}, ["firstName"]),
        ({"firstName": "A", "lastName": "\x07", "email": "x", "phone": "x"}, ["lastName", "email", "phone"]),
        ({"firstName": "A", "profileImage": "/uploads/0/x.png"}, ["profileImage"]),
        ({"firstName": "A", "userType": "x" * 51}, ["userType"]),
        ({"firstName": "A", "trustScore": "high"}, ["trustScore"]),
        ({"firstName": "A", "isActive": "yes"}, ["isActive"]),
    ],
)
async def test_bad_input_is_named_and_nobody_is_made(town: Town, body: dict[str, Any], paths: list[str]) -> None:
    user_id = unique("u")
    answer = await put(town, user_id, body)
    check_problem(answer, "VALIDATION_FAILED")
    assert sorted(answer.paths) == sorted(paths)
    check_problem(await get(town, user_id), "NOT_FOUND")


@pytest.mark.parametrize("user_id", ["search", "%00", "a%0Ab", "x" * 129])
async def test_what_cannot_be_an_id_is_refused(town: Town, user_id: str) -> None:
    answer = await put(town, user_id, LEE)
    assert answer.status in (400, 405), answer


@pytest.mark.parametrize(
    ("bearer", "code"),
    [
        (token("somebody"), "FORBIDDEN"),
        (token("somebody", scope="users:read users:writer"), "FORBIDDEN"),
        (token("somebody", scope=["x"]), "FORBIDDEN"),
        (token("somebody", scope="users:write", exp=1), "TOKEN_EXPIRED"),
        (sign("somebody", "b" * 64, "HS256", scope="users:write"), "UNAUTHORIZED"),
        (None, "UNAUTHORIZED"),
    ],
)
async def test_only_a_token_that_names_the_scope_may(town: Town, bearer: str | None, code: str) -> None:
    user_id = unique("u")
    await put(town, user_id, LEE)
    for method, body, who in (("PUT", LEE, user_id), ("DELETE", {}, user_id), ("DELETE", {}, unique("none"))):
        check_problem(await town.rest.call(method, f"{API}/users/{who}", body, token=bearer), code)
    assert (await get(town, user_id)).status == 200


async def test_people_with_accounts_here_are_nobodys_to_keep(
    town_at: Callable[[ServerProcess], Town], server: Any
) -> None:
    own, other = await town_at(server).people(2)
    for method, body in (("PUT", LEE), ("DELETE", {})):
        for who in (own, other):
            check_problem(await own.call(method, f"{API}/users/{who.id}", body), "FORBIDDEN")


@pytest.mark.parametrize("way", ["PUT", "DELETE"])
async def test_who_is_deactivated_is_out_at_once(town: Town, way: str) -> None:
    user_id, other_id = unique("u"), unique("u")
    for one in (user_id, other_id):
        await put(town, one, LEE)
    room = await town.rest.call("POST", f"{MESSAGES}/chat-rooms", {"otherUserId": other_id}, token=token(user_id))
    devices: list[Device] = [await town.device().connect(token(user_id)) for _ in range(2)]
    sent = f"{MESSAGES}/chats/{room.body['id']}/messages"
    await town.rest.call("POST", sent, {"content": "kept"}, token=token(user_id))
    body = {**LEE, "isActive": False} if way == "PUT" else {}
    gone = await town.rest.call(way, f"{API}/users/{user_id}", body, token=KEEPER)
    assert gone.status == (200 if way == "PUT" else 204), gone
    for device in devices:
        assert (await device.next("exception"))["code"] == "UNAUTHORIZED"
        await device.disconnected()
    check_problem(await town.rest.call("GET", f"{API}/users/me", token=token(user_id)), "UNAUTHORIZED")
    check_problem(await get(town, user_id), "NOT_FOUND")
    assert user_id not in await found(town, user_id)
    history = (await town.rest.call("GET", sent, token=token(other_id))).body["messages"]
    name = "Ann Lee" if way == "PUT" else "Deleted user"
    assert [(message["content"], message["senderName"]) for message in history] == [("kept", name)]
    back = await put(town, user_id, LEE)
    assert back.status == 200 and (await get(town, user_id)).status == 200, "and comes back as the directory says"
    assert (await town.rest.call("GET", f"{API}/users/me", token=token(user_id))).status == 200


async def test_deleting_twice_and_nobody(town: Town) -> None:
    for user_id in (unique("none"), "%00"):
        check_problem(await town.rest.call("DELETE", f"{API}/users/{user_id}", {}, token=KEEPER), "NOT_FOUND")
