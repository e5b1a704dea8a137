"""Authorisation, cell by cell: every route and event, for every kind of caller, on every kind of object."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.conftest import NO_LIMITS, serve
from tests.support.issuer import ALSO_EXTERNAL, AUDIENCE, ISSUER, SHARED_SECRET, sign
from tests.support.people import Person, Town, unique
from tests.support.rest import API, NOTHING, Answer
from tests.support.routes import ROUTES, UNKNOWN, Route
from tests.support.server_process import ServerProcess
from tests.support.shapes import check_error, check_problem
from tests.test_access import EVENTS

SETTINGS = {**ALSO_EXTERNAL, "auth.external.issuer": ISSUER, "auth.external.audience": AUDIENCE}
# Who is let in. A service without the scope `users:write` is a user like others.
APART = ("blocked", "blocker")
LET_IN = ("owner", "without users:write", *APART)
LET_OUT = ("deactivated", "foreign issuer", "expired", "wrong audience", "anonymous")
OBJECTS = ("malformed", "missing", "foreign", "own")
MALFORMED = "%20{'$ne':''}"

# The answers to the callers that are let in, for objects that are malformed, missing, foreign, own, and own of two of
# whom one has blocked the other. A new route or event needs its row.
ROUTE_CELLS = {
    "POST /api/v1/auth/logout": "204 204 204 204 204",
    "POST /api/v1/auth/password": "400 400 400 400 400",
    "GET /api/v1/auth/sessions": "200 200 200 200 200",
    "DELETE /api/v1/auth/sessions/{unknown}": "404 404 404 404 404",
    "GET /api/v1/users/me": "200 200 200 200 200",
    "PATCH /api/v1/users/me": "200 200 200 200 200",
    "DELETE /api/v1/users/me": "400 400 400 400 400",
    "GET /api/v1/users/me/export": "200 200 200 200 200",
    "GET /api/v1/users/search?q=x": "200 200 200 200 200",
    "GET /api/v1/users/{user}": "404 404 200 200 200",
    "PUT /api/v1/users/{user}": "403 403 403 403 403",
    "DELETE /api/v1/users/{user}": "403 403 403 403 403",
    "POST /api/v1/messages/chat-rooms": "404 404 201 400 400",
    "GET /api/v1/messages/chat-rooms/{room}": "404 404 404 200 200",
    "PATCH /api/v1/messages/chat-rooms/{room}": "404 404 404 409 409",
    "DELETE /api/v1/messages/chat-rooms/{room}": "404 404 404 409 409",
    "POST /api/v1/messages/chat-rooms/{room}/join": "404 404 404 409 409",
    "GET /api/v1/messages/chat-rooms/{room}/members": "404 404 404 200 200",
    "POST /api/v1/messages/chat-rooms/{room}/members": "404 404 404 409 409",
    "PATCH /api/v1/messages/chat-rooms/{room}/members/{user}": "404 404 404 409 409",
    "DELETE /api/v1/messages/chat-rooms/{room}/members/{user}": "404 404 404 409 409",
    "GET /api/v1/messages/chats": "200 200 200 200 200",
    "GET /api/v1/messages/chats/{room}": "404 404 404 200 200",
    "GET /api/v1/messages/unread": "200 200 200 200 200",
    "POST /api/v1/messages/sync": "200 200 200 200 200",
    "GET /api/v1/users/presence?ids=x": "200 200 200 200 200",
    "GET /api/v1/messages/chats/{room}/messages": "404 404 404 200 200",
    "POST /api/v1/messages/chats/{room}/messages": "404 404 404 201 403",
    "PATCH /api/v1/messages/chats/{room}/settings": "404 404 404 200 200",
    "POST /api/v1/messages/{message}/report": "404 404 404 204 204",
    "GET /api/v1/users/blocked": "200 200 200 200 200",
    "POST /api/v1/users/{unknown}/block": "404 404 204 400 400",
    "DELETE /api/v1/users/{unknown}/block": "204 204 204 204 204",
    "POST /api/v1/messages/chats/{room}/read": "404 404 404 200 200",
    "GET /api/v1/messages/open-rooms": "200 200 200 200 200",
    "GET /api/v1/messages/chats/{room}/pins": "404 404 404 200 200",
    "PATCH /api/v1/messages/{message}": "404 404 404 200 403",
    "DELETE /api/v1/messages/{message}": "404 404 404 200 200",
    "PUT /api/v1/messages/{message}/reactions/%F0%9F%91%8D": "404 404 404 200 403",
    "DELETE /api/v1/messages/{message}/reactions/%F0%9F%91%8D": "404 404 404 200 403",
    "PUT /api/v1/messages/{message}/pin": "404 404 404 200 403",
    "DELETE /api/v1/messages/{message}/pin": "404 404 404 200 403",
    "GET /api/v1/messages/{message}/receipts": "404 404 404 200 200",
    "POST /api/v1/upload": "415 415 415 415 415",
}
EVENT_CELLS = {
    "message:send": "NOT_FOUND NOT_FOUND NOT_FOUND ok FORBIDDEN",
    "message:read": "NOT_FOUND NOT_FOUND NOT_FOUND ok ok",
    "message:delivered": "NOT_FOUND NOT_FOUND NOT_FOUND ok ok",
    "message:edit": "NOT_FOUND NOT_FOUND NOT_FOUND ok FORBIDDEN",
    "message:delete": "NOT_FOUND NOT_FOUND NOT_FOUND ok ok",
    "message:react": "NOT_FOUND NOT_FOUND NOT_FOUND ok FORBIDDEN",
    "message:pin": "NOT_FOUND NOT_FOUND NOT_FOUND ok FORBIDDEN",
    "message:report": "NOT_FOUND NOT_FOUND NOT_FOUND ok ok",
    "chat:settings": "NOT_FOUND NOT_FOUND NOT_FOUND ok ok",
    "user:block": "NOT_FOUND NOT_FOUND ok VALIDATION_FAILED VALIDATION_FAILED",
    "user:unblock": "ok ok ok ok ok",
    "blocked:get": "ok ok ok ok ok",
    "sessions:get": "ok ok ok ok ok",
    "session:end": "NOT_FOUND NOT_FOUND NOT_FOUND NOT_FOUND NOT_FOUND",
    "typing:start": "NOT_FOUND NOT_FOUND NOT_FOUND ok ok",
    "typing:stop": "NOT_FOUND NOT_FOUND NOT_FOUND ok ok",
    "room:join": "NOT_FOUND NOT_FOUND NOT_FOUND ok ok",
    "room:leave": "NOT_FOUND NOT_FOUND NOT_FOUND ok ok",
    "sync": "NOT_FOUND NOT_FOUND NOT_FOUND ok ok",
    "presence:get": "ok ok ok ok ok",
    "auth:refresh": "ok ok ok ok ok",
}


class Scene(NamedTuple):
    """A token for each kind of caller, and the ids that stand for their own objects."""

    tokens: dict[str, str | None]
    own: dict[str, dict[str, str]]

    def ids(self, caller: str, kind: str) -> dict[str, str]:
        """The room, the message and the user that a call of this caller names."""
        if kind == "own":
            return self.own[caller]
        if kind == "foreign":
            return self.own["blocker" if caller not in APART else "owner"]
        return dict.fromkeys(("room", "message", "user"), UNKNOWN if kind == "missing" else MALFORMED)


def token_of(user_id: str, **claims: Any) -> str:
    return sign(user_id, SHARED_SECRET, "HS256", **claims)


async def come(town: Town) -> Person:
    """Somebody whose account is elsewhere: made by a first token, which costs no password."""
    user_id = unique("shop")
    answer = await town.rest.call("GET", f"{API}/users/me", token=token_of(user_id))
    assert answer.status == 200, answer
    return Person(town, answer.body, token_of(user_id), "")


async def prepare(town: Town) -> Scene:
    """Two pairs, each with a room and a message of each in it; one has blocked the other in the second pair."""
    owner, plain, blocker, blocked, gone = await asyncio.gather(*(come(town) for _ in range(5)))
    own = {}
    for one, other, names in ((owner, plain, LET_IN[:2]), (blocked, blocker, APART)):
        room_id = await one.open_room(other)
        for person, name in ((one, names[0]), (other, names[1])):
            message = await person.send(room_id)
            own[name] = {"room": room_id, "message": message["messageId"], "user": person.id}
    assert (await blocker.call("POST", f"{API}/users/{blocked.id}/block")).status == 204
    writer = token_of(unique("writer"), scope="users:write")
    assert (await town.rest.call("DELETE", f"{API}/users/{gone.id}", token=writer)).status == 204
    tokens = {
        "owner": owner.access_token,
        "without users:write": token_of(plain.id, scope="users:read"),
        "blocked": blocked.access_token,
        "blocker": blocker.access_token,
        "deactivated": gone.access_token,
        "foreign issuer": token_of(owner.id, iss="https://elsewhere.example.com"),
        "expired": token_of(owner.id, exp=int(time.time() - 3600)),
        "wrong audience": token_of(owner.id, aud="mail"),
        "anonymous": None,
    }
    assert set(tokens) == {*LET_IN, *LET_OUT}
    return Scene(tokens, own)


def filled(template: Any, ids: dict[str, str]) -> Any:
    """The template with these ids in place of its braces, and that of the user in place of an unknown one."""
    if template is NOTHING:
        return template
    text = json.dumps(template).replace(UNKNOWN, "{user}")
    for name, value in ids.items():
        text = text.replace(f"{{{name}}}", value)
    return json.loads(text)


def name_of(route: Route) -> str:
    return str(route).replace(UNKNOWN, "{unknown}")


async def request(town: Town, route: Route, token: str | None, ids: dict[str, str]) -> Answer:
    return await town.rest.call(route.method, filled(route.path, ids), filled(route.body, ids), token=token)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with accounts here and elsewhere."""
    yield from serve(tmp_path_factory.mktemp("both"), {**NO_LIMITS, **SETTINGS})


@pytest.fixture
def town(town_at: Callable[[ServerProcess], Town], both: ServerProcess) -> Town:
    return town_at(both)


def cells(row: str) -> Iterator[tuple[str, str, str]]:
    """Each object and caller with the answer in that row of the table."""
    malformed, missing, foreign, own, apart = row.split()
    answers = {"malformed": malformed, "missing": missing, "foreign": foreign}
    for kind in OBJECTS:
        for caller in LET_IN:
            yield kind, caller, answers.get(kind, apart if caller in APART else own)


def test_no_route_and_no_event_is_forgotten() -> None:
    assert ROUTE_CELLS.keys() == {name_of(route) for route in ROUTES if not route.is_public}
    assert EVENT_CELLS.keys() == EVENTS.keys()


@pytest.mark.parametrize("route", [route for route in ROUTES if not route.is_public], ids=str)
async def test_a_route(town: Town, route: Route) -> None:
    scene = await prepare(town)
    for caller in LET_OUT:
        for kind in OBJECTS:
            answer = await request(town, route, scene.tokens[caller], scene.ids("owner", kind))
            check_problem(answer, "TOKEN_EXPIRED" if caller == "expired" else "UNAUTHORIZED")
    for kind, caller, status in cells(ROUTE_CELLS[name_of(route)]):
        answer = await request(town, route, scene.tokens[caller], scene.ids(caller, kind))
        # A room that is there already is 200, where a new one is 201.
        assert answer.status in {int(status), 200 if status == "201" else int(status)}, (kind, caller, answer)
        if status == "403":
            assert answer.body.get("reason") == (None if route.path.startswith(f"{API}/users") else "BLOCKED"), answer


@pytest.mark.parametrize("event", EVENTS)
async def test_an_event(town: Town, event: str) -> None:
    scene = await prepare(town)
    devices = {caller: await town.device().connect(scene.tokens[caller]) for caller in LET_IN}
    for kind, caller, outcome in cells(EVENT_CELLS[event]):
        ids = {**scene.ids(caller, kind), "token": str(scene.tokens[caller])}
        ack = await devices[caller].call(event, filled(EVENTS[event], ids))
        assert ("ok" if ack["ok"] else ack["error"]["code"]) == outcome, (kind, caller, ack)
        if outcome == "FORBIDDEN":
            assert ack["error"]["reason"] == "BLOCKED"


@pytest.mark.parametrize("caller", LET_OUT)
async def test_a_connection(town: Town, caller: str) -> None:
    scene = await prepare(town)
    raw = await town.raw_session()
    token = scene.tokens[caller]
    await raw.send("40/chat," + ("" if token is None else json.dumps({"token": token})))
    refusal = json.loads(await raw.packet("44/chat,"))["data"]
    assert refusal.pop("reason", None) == ("TOKEN_EXPIRED" if caller == "expired" else None)
    check_error(refusal, "UNAUTHORIZED")
