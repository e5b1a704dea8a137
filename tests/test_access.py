"""Access: every route and event with no token, a bad one, an expired one, and another user's object."""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from tornado.web import RequestHandler

from handlers.routes import ROUTES as SERVED
from handlers.routes import pattern_of
from handlers.socket.events import EVENTS as HANDLED
from server.errors import Forbidden, Unauthorized
from server.models import Principal
from server.operations.executor import authorise
from server.operations.operation import Caller, Operation
from server.operations.table import OPERATIONS
from tests.conftest import Residents
from tests.support.people import Person, Town
from tests.support.rest import API, NOTHING
from tests.support.routes import ROUTES, UNKNOWN, Route
from tests.support.shapes import check_error, check_problem, check_refused
from tests.support.tokens import ending_in, expired, forged, resigned, unsigned

EVENTS: dict[str, dict[str, Any]] = {
    "message:send": {"roomId": "{room}", "content": "x"},
    "message:read": {"messageId": "{message}"},
    "message:delivered": {"messageId": "{message}"},
    "message:edit": {"messageId": "{message}", "content": "y"},
    "message:delete": {"messageId": "{message}"},
    "message:react": {"messageId": "{message}", "emoji": "\N{THUMBS UP SIGN}"},
    "message:pin": {"messageId": "{message}"},
    "message:report": {"messageId": "{message}", "reason": "SPAM"},
    "chat:settings": {"roomId": "{room}", "pinned": True},
    "user:block": {"userId": "{user}"},
    "user:unblock": {"userId": "{user}"},
    "blocked:get": {},
    "sessions:get": {},
    "session:end": {"sessionId": UNKNOWN},
    "typing:start": {"roomId": "{room}"},
    "typing:stop": {"roomId": "{room}"},
    "room:join": {"roomId": "{room}"},
    "room:leave": {"roomId": "{room}"},
    "sync": {"rooms": {"{room}": 0}},
    "presence:get": {"userIds": ["{user}"]},
    "auth:refresh": {"token": "{token}"},
}
OBJECT_FREE = {"presence:get", "auth:refresh", "blocked:get", "sessions:get", "session:end"}
OBJECT_FREE |= {"user:block", "user:unblock"}  # these name no room and no message
BAD_TOKENS = {
    "no token": lambda _: None,
    "empty": lambda _: "",
    "garbage": lambda _: "garbage",
    "three parts": lambda _: "a.b.c",
    "other secret": forged,
    "no algorithm": unsigned,
    "no expiry": lambda token: resigned(token, exp=None),
    "no subject": lambda token: resigned(token, sub=None),
    "unknown subject": lambda token: resigned(token, sub=UNKNOWN),
    "cut": lambda token: token[:-3],
}


def filled(template: Any, residents: Residents, **other: str) -> Any:
    """The template with Alice's ids, or those of `other`, in place of its braces."""
    if template is NOTHING:
        return template
    ids = {"room": residents.room_id, "message": residents.message_id, "user": residents.bob.id, **other}
    text = json.dumps(template)
    for name, value in ids.items():
        text = text.replace(f"{{{name}}}", value)
    return json.loads(text)


async def request(town: Town, route: Route, residents: Residents, token: str | None, **other: str) -> Any:
    path = filled(route.path, residents, **other)
    return await town.rest.call(route.method, path, filled(route.body, residents, **other), token=token)


@pytest.mark.parametrize("route", ROUTES, ids=str)
async def test_a_route_needs_a_good_token(town: Town, residents: Residents, route: Route) -> None:
    good = residents.alice.access_token
    for label, make in BAD_TOKENS.items():
        answer = await request(town, route, residents, make(good))
        if route.is_public:
            assert answer.status != 401 or route.path.endswith(("login", "refresh")), (label, answer)
            continue
        assert answer.status == 401, (label, answer)
        check_problem(answer, "UNAUTHORIZED")
    answer = await request(town, route, residents, expired(good))
    if not route.is_public:
        check_problem(answer, "TOKEN_EXPIRED")


@pytest.mark.parametrize("route", [route for route in ROUTES if not route.is_public], ids=str)
async def test_a_token_is_taken_from_the_header_only(town: Town, residents: Residents, route: Route) -> None:
    good = residents.alice.access_token
    for name in ("token", "access_token", "accessToken"):
        path = filled(route.path, residents)
        path += ("&" if "?" in path else "?") + f"{name}={good}"
        check_problem(await town.rest.call(route.method, path, filled(route.body, residents)), "UNAUTHORIZED")
    path, body = filled(route.path, residents), filled(route.body, residents)
    for header in (good, f"Basic {good}", f"Token {good}", "Bearer"):
        answer = await town.rest.call(route.method, path, body, headers={"Authorization": header})
        check_problem(answer, "UNAUTHORIZED")


@pytest.mark.parametrize("route", [route for route in ROUTES if route.is_shared], ids=str)
async def test_a_strangers_object_answers_like_none(town: Town, residents: Residents, route: Route) -> None:
    token = residents.stranger.access_token
    theirs = await request(town, route, residents, token)
    nobodys = await request(town, route, residents, token, room=UNKNOWN, message=UNKNOWN)
    check_problem(theirs, "NOT_FOUND")
    assert theirs.body == nobodys.body


async def test_a_refresh_token_is_no_access_token(town: Town, residents: Residents) -> None:
    answer = await town.rest.call("GET", f"{API}/users/me", token=residents.alice.refresh_token)
    check_problem(answer, "UNAUTHORIZED")


@pytest.mark.parametrize("event", EVENTS)
async def test_an_event_needs_an_accepted_connection(town: Town, residents: Residents, event: str) -> None:
    """After a refusal the same Engine.IO session sends the event anyway: nobody acknowledges it, nothing happens."""
    good = residents.alice.access_token
    seq = (await town.resident(residents.alice).room(residents.room_id))["lastSeq"]
    payload = filled(EVENTS[event], residents, token=good)
    for label, make in {**BAD_TOKENS, "expired": expired}.items():
        raw = await town.raw_session()
        token = make(good)
        await raw.send("40/chat," + ("" if token is None else json.dumps({"token": token})))
        refusal = json.loads(await raw.packet("44/chat,"))
        reason = refusal["data"].pop("reason", None)
        assert reason == ("TOKEN_EXPIRED" if label == "expired" else None)
        check_error(refusal["data"], "UNAUTHORIZED")
        try:
            await raw.emit(event, payload, ack=1)
            await raw.send("40/chat," + json.dumps({"token": good}))  # the fence: its answer comes after any other
            while not (heard := await raw.text()).startswith("40/chat,"):
                assert not heard.startswith(("42/chat", "43/chat")), (label, heard)
        except (ConnectionError, EOFError):
            pass  # ending such a session is as good
        await raw.close()
    assert (await town.resident(residents.alice).room(residents.room_id))["lastSeq"] == seq


@pytest.mark.parametrize("event", [event for event in EVENTS if event not in OBJECT_FREE])
async def test_an_event_on_a_strangers_object_answers_like_none(town: Town, residents: Residents, event: str) -> None:
    device = await town.resident(residents.stranger).connect()
    theirs = await device.call(event, filled(EVENTS[event], residents))
    nobodys = await device.call(event, filled(EVENTS[event], residents, room=UNKNOWN, message=UNKNOWN))
    check_refused(theirs, "NOT_FOUND")
    assert json.dumps(theirs).replace(residents.room_id, UNKNOWN) == json.dumps(nobodys)


def served_path(route: Route) -> str:
    path = route.path.split("?")[0]
    served = (served.path for served in SERVED if re.fullmatch(pattern_of(served.path), path))
    return next(served, f"nothing serves {path}")


def find_untried(operations: Mapping[str, Operation[Any, Any]]) -> set[str]:
    """The operations that no test here calls, or that these tests take for public although they are not."""
    tried = {HANDLED[event].operation.name: False for event in EVENTS}
    by_path = {served.path: served.endpoints for served in SERVED}
    for route in ROUTES:
        endpoint = by_path[served_path(route)].get(route.method)
        if endpoint is not None:
            tried[endpoint.operation.name] = route.is_public
    return {name for name, operation in operations.items() if tried.get(name) != operation.is_public}


def test_the_tables_name_every_route_and_every_event() -> None:
    served = {(method, route.path) for route in SERVED for method in route.endpoints}
    assert {(route.method, served_path(route)) for route in ROUTES} == served
    assert EVENTS.keys() == HANDLED.keys()


def test_every_method_of_a_route_is_declared() -> None:
    for route in SERVED:
        methods = {method for method in RequestHandler.SUPPORTED_METHODS if is_implemented(route.handler, method)}
        assert methods - {"HEAD", "OPTIONS"} == route.endpoints.keys(), route.path


def is_implemented(handler: type[RequestHandler], method: str) -> bool:
    return getattr(handler, method.lower()) is not getattr(RequestHandler, method.lower())


def test_every_operation_is_tried() -> None:
    assert find_untried(OPERATIONS) == set()
    planted = dataclasses.replace(OPERATIONS["rooms.get"], name="rooms.planted")
    opened = dataclasses.replace(OPERATIONS["rooms.get"], scope=None)
    assert find_untried({**OPERATIONS, "rooms.planted": planted, "rooms.get": opened}) == {"rooms.planted", "rooms.get"}


def test_only_what_names_nobodys_objects_is_public() -> None:
    """Whoever makes another one public has to write it here."""
    assert {name for name, operation in OPERATIONS.items() if operation.is_public} == {
        "accounts.register",
        "accounts.log_in",
        "accounts.refresh",
        "uploads.get",
        "health.tell_alive",
        "health.find_unavailable",
        "metrics.read",
        "contract.describe_rest",
        "contract.describe_sockets",
        "web.get_file",
        "web.get_settings",
    }


def test_a_scope_that_is_missing_is_refused_before_anything_is_called() -> None:
    reader = Caller(Principal("user", None, 0.0, frozenset({"messages:read"})))
    for operation in OPERATIONS.values():
        if operation.is_public or operation.scope == "messages:read":
            authorise(reader, operation)
            continue
        with pytest.raises(Forbidden, match=str(operation.scope)):
            authorise(reader, operation)
        with pytest.raises(Unauthorized):
            authorise(Caller(None), operation)


async def test_the_header_serves_where_no_token_is_in_auth_and_auth_wins(town: Town, residents: Residents) -> None:
    alice = town.resident(residents.alice)
    header = {"Authorization": f"Bearer {alice.access_token}"}
    for auth in (None, {}, {"token": None}):
        device = await town.device().connect(auth=auth, headers=header)
        await device.round_trip()
    error = await town.device().refused("garbage", headers=header)
    check_error(error["data"], "UNAUTHORIZED")
    both = await town.device().connect(alice.access_token, headers={"Authorization": "Bearer garbage"})
    await both.round_trip()


async def test_a_token_in_the_query_string_does_not_connect(town: Town, residents: Residents) -> None:
    for name in ("token", "access_token", "auth"):
        device = town.device()
        device.url = f"{town.url}?{name}={residents.alice.access_token}"
        check_error((await device.refused(None))["data"], "UNAUTHORIZED")


@pytest.mark.parametrize("auth", ["x", 7, [], ["x"], {"token": 7}, {"token": {"$gt": ""}}, {"token": []}, True])
async def test_an_odd_auth_is_refused(town: Town, auth: Any) -> None:
    check_error((await town.device().refused(auth=auth))["data"], "UNAUTHORIZED")


async def test_a_token_that_ends_while_connected(town: Town) -> None:
    person = await town.person()
    short = ending_in(person.access_token, 5)
    stays, goes = [await town.device().connect(short) for _ in range(2)]
    ack = await stays.call("auth:refresh", {"token": person.access_token})
    assert ack["ok"] is True and isinstance(ack["expiresAt"], str), ack
    check_error(await goes.next("exception"), "TOKEN_EXPIRED")
    await goes.disconnected()
    await stays.round_trip()
    assert not stays.is_gone and stays.heard("exception") == []


async def test_a_connection_keeps_its_person(town: Town, residents: Residents) -> None:
    device = await town.resident(residents.alice).connect()
    ack = await device.call("auth:refresh", {"token": residents.bob.access_token})
    assert ack["ok"] is False and ack["error"]["code"] in ("UNAUTHORIZED", "FORBIDDEN"), ack
    check_refused(await device.call("auth:refresh", {"token": "garbage"}), "UNAUTHORIZED")
    check_refused(await device.call("auth:refresh", {"token": expired(residents.alice.access_token)}), "TOKEN_EXPIRED")
    ack = await device.call("message:send", {"roomId": residents.room_id, "content": "x", "clientMessageId": "still"})
    assert ack["message"]["senderId"] == residents.alice.id


async def test_logging_out_ends_that_sessions_tokens_and_sockets(town: Town) -> None:
    person = await town.person()
    login = {"email": person.user["email"], "password": "correct horse battery"}
    second = (await town.rest.call("POST", f"{API}/auth/login", login)).body
    elsewhere = Person(town, second["user"], second["accessToken"], second["refreshToken"])
    here, there = await person.connect(), await elsewhere.connect()
    assert (await person.call("POST", f"{API}/auth/logout")).status == 204
    await here.disconnected()
    check_problem(await person.get(f"{API}/users/me"), "UNAUTHORIZED")
    check_error((await town.device().refused(person.access_token))["data"], "UNAUTHORIZED")
    refresh = await town.rest.call("POST", f"{API}/auth/refresh", {"refreshToken": person.refresh_token})
    check_problem(refresh, "UNAUTHORIZED")
    await there.round_trip()
    assert (await elsewhere.get(f"{API}/users/me")).status == 200
