"""Bad input over REST: every field of every body, every query argument, every path; never 500, never silence."""

from typing import Any, NamedTuple

import pytest

from tests.conftest import Residents
from tests.support.people import PASSWORD, Town, unique
from tests.support.rest import API, MESSAGES
from tests.support.shapes import check_problem
from tests.support.wrong_values import Field, integer, text, wrong_arguments, wrong_values


class Body(NamedTuple):
    """A route that takes a body: a good one (with unique values made anew) and its fields."""

    method: str
    path: str
    fields: tuple[Field, ...]
    is_public: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


BODIES = (
    Body(
        "POST",
        f"{API}/auth/register",
        (
            text("email", 254, required=True),
            text("password", 1024, required=True),
            text("firstName", 100, required=True),
            text("lastName", 100, required=True),
            text("phone", 32),
            text("userType", 50),
            text("profileImage", 2048),
        ),
        is_public=True,
    ),
    Body("POST", f"{API}/auth/login", (text("email", required=True), text("password", required=True)), is_public=True),
    Body("POST", f"{API}/auth/refresh", (text("refreshToken", required=True),), is_public=True),
    Body(
        "PATCH",
        f"{API}/users/me",
        (
            text("firstName", 100, null=False),
            text("lastName", 100, null=False),
            text("phone", 32),
            text("profileImage", 2048),
        ),
    ),
    Body("POST", f"{MESSAGES}/chat-rooms", (text("otherUserId", required=True), text("bookingId", 10_000))),
    Body(
        "POST",
        f"{MESSAGES}/chats/{{room}}/messages",
        (
            text("content", 10_000, required=True),
            text("type", 10),
            text("messageType", 10),
            text("attachmentUrl", 4096),
            text("clientMessageId", 64),
        ),
    ),
    Body("POST", f"{MESSAGES}/chats/{{room}}/read", (text("messageId", required=True),)),
)
CASES = [pytest.param(body, field, id=f"{body} {field.name}") for body in BODIES for field in body.fields]
QUERIES = [
    (f"{API}/users/search", {"q": "x"}, (text("q", 100, required=True), integer("limit", 1, 100))),
    (f"{MESSAGES}/chats", {}, (integer("limit", 1, 100), text("cursor"))),
    (
        f"{MESSAGES}/chats/{{room}}/messages",
        {},
        (integer("limit", 1, 200), integer("page", 1), integer("before", 0), integer("after", 0)),
    ),
]
QUERY_CASES = [
    pytest.param(path, good, field, id=f"GET {path} {field.name}") for path, good, fields in QUERIES for field in fields
]


def good_body(body: Body, residents: Residents) -> dict[str, Any]:
    """A body that succeeds; nothing that stays of it disturbs other tests."""
    samples = {
        "email": f"{unique()}@example.com",
        "password": PASSWORD,
        "firstName": "A",
        "lastName": "B",
        "refreshToken": "x",
        "otherUserId": residents.stranger.id,
        "content": "x",
        "messageId": residents.message_id,
    }
    return {field.name: samples[field.name] for field in body.fields if field.is_required}


@pytest.mark.parametrize(("body", "field"), CASES)
async def test_every_field_of_every_body(town: Town, residents: Residents, body: Body, field: Field) -> None:
    alice = town.resident(residents.alice)
    path = body.path.format(room=residents.room_id)
    token = None if body.is_public else alice.access_token
    for label, fault in wrong_values(field, good_body(body, residents)):
        answer = await town.rest.call(body.method, path, fault, token=token)
        try:
            check_problem(answer, "VALIDATION_FAILED")
        except AssertionError as error:
            raise AssertionError(f"{label}: {error}") from error
        assert field.name in answer.paths, (label, answer)


@pytest.mark.parametrize("body", BODIES, ids=str)
@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{", b"[]", b"[1]", b'"x"', b"7", b"null", b"true", b"{} {}", b"{'a': 1}", b'{"content": NaN}'),
        *(b"\xff\xfe", b'{"FIELD": "\xff"}', b"[" * 50_000, b'{"a":' * 20_000),
    ],
    ids=lambda raw: repr(raw[:12]),
)
async def test_what_is_no_json_object(town: Town, residents: Residents, body: Body, raw: bytes) -> None:
    token = None if body.is_public else residents.alice.access_token
    raw = raw.replace(b"FIELD", body.fields[0].name.encode())
    answer = await town.rest.call(body.method, body.path.format(room=residents.room_id), raw, token=token)
    check_problem(answer, "VALIDATION_FAILED")


@pytest.mark.parametrize("body", BODIES, ids=str)
@pytest.mark.parametrize("raw", [b"[", b"[{", b'{"FIELD": 7', b'{"FIELD": 7, }', b"", b"FIELD=7", b'{"FIELD": 7} {}'])
async def test_what_is_no_json_is_told_so(town: Town, residents: Residents, body: Body, raw: bytes) -> None:
    token = None if body.is_public else residents.alice.access_token
    raw = raw.replace(b"FIELD", body.fields[0].name.encode())
    answer = await town.rest.call(body.method, body.path.format(room=residents.room_id), raw, token=token)
    check_problem(answer, "VALIDATION_FAILED", "")
    assert answer.body["detail"] == "malformed JSON"


@pytest.mark.parametrize("body", BODIES, ids=str)
@pytest.mark.parametrize("value", [7, [], "\0"], ids=["a number", "a list", "NUL"])
async def test_all_wrong_fields_are_named(town: Town, residents: Residents, body: Body, value: Any) -> None:
    token = None if body.is_public else residents.alice.access_token
    wrong = {field.name: value for field in body.fields}
    answer = await town.rest.call(body.method, body.path.format(room=residents.room_id), wrong, token=token)
    check_problem(answer, "VALIDATION_FAILED")
    # A kind of message with NUL is unknown before it is bad text.
    kinds = {"type", "messageType"} & set(wrong) if value == "\0" else set()
    assert set(answer.paths) == (kinds or set(wrong)), answer


@pytest.mark.parametrize("body", BODIES, ids=str)
async def test_all_missing_fields_are_named(town: Town, residents: Residents, body: Body) -> None:
    required = {field.name for field in body.fields if field.is_required}
    token = None if body.is_public else residents.alice.access_token
    path = body.path.format(room=residents.room_id)
    answer = await town.rest.call(body.method, path, {body.fields[-1].name: 7}, token=token)
    check_problem(answer, "VALIDATION_FAILED")
    if not body.path.endswith("/messages"):
        # What a message needs depends on its kind.
        assert set(answer.paths) == required | {body.fields[-1].name}, answer


async def test_all_that_breaks_the_rules_of_a_profile_is_named(town: Town, residents: Residents) -> None:
    wrong = {"email": "nobody", "password": "short", "firstName": " ", "lastName": "x" * 101, "phone": "none"}
    wrong |= {"userType": "x" * 51, "profileImage": "ftp://x"}
    answer = await town.rest.call("POST", f"{API}/auth/register", wrong)
    check_problem(answer, "VALIDATION_FAILED")
    assert set(answer.paths) == set(wrong), answer
    for name in ("email", "password", "userType"):
        del wrong[name]
    answer = await town.resident(residents.alice).call("PATCH", f"{API}/users/me", wrong)
    check_problem(answer, "VALIDATION_FAILED")
    assert set(answer.paths) == set(wrong), answer


async def test_all_wrong_query_arguments_are_named(town: Town, residents: Residents) -> None:
    alice = town.resident(residents.alice)
    for path, good, fields in QUERIES:
        wrong = {field.name: "many" if field.kind == "integer" else "\0" for field in fields if field.most != 100}
        wrong |= {field.name: "x" * 101 if field.kind == "text" else 101 for field in fields if field.most == 100}
        answer = await alice.get(path.format(room=residents.room_id), **{**good, **wrong})
        check_problem(answer, "VALIDATION_FAILED")
        integers = {field.name for field in fields if field.kind == "integer"}
        assert set(answer.paths) >= integers, answer


@pytest.mark.parametrize("body", BODIES, ids=str)
async def test_a_body_over_the_limit(town: Town, residents: Residents, body: Body) -> None:
    token = None if body.is_public else residents.alice.access_token
    raw = b'{"content": "' + b"x" * 140_000 + b'"}'
    answer = await town.rest.call(body.method, body.path.format(room=residents.room_id), raw, token=token)
    check_problem(answer, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("body", [body for body in BODIES if not body.path.endswith(("/login", "/refresh"))], ids=str)
async def test_unknown_fields_are_ignored(town: Town, residents: Residents, body: Body) -> None:
    token = None if body.is_public else town.resident(residents.alice).access_token
    good = good_body(body, residents) | {"$where": "x", "nobodyKnows": {"a": [1]}, "isActive": False, "seq": 9}
    if body.path.endswith("/messages"):
        good["clientMessageId"] = "bad-input"
    answer = await town.rest.call(body.method, body.path.format(room=residents.room_id), good, token=token)
    assert answer.status in (200, 201), answer


@pytest.mark.parametrize("value", ["1e999", "-1e999", "9" * 5000, '{"a": 1e999}', "[" * 500 + "]" * 500])
async def test_no_value_of_an_unknown_field_does_harm(town: Town, residents: Residents, value: str) -> None:
    raw = b'{"content": "x", "zz": %b, "clientMessageId": "odd value"}' % value.encode()
    path = f"{MESSAGES}/chats/{residents.room_id}/messages"
    answer = await town.rest.call("POST", path, raw, token=residents.alice.access_token)
    assert answer.status in (200, 201), answer


async def test_a_wrong_field_that_comes_again_is_named(town: Town, residents: Residents) -> None:
    raw = b'{"otherUserId": 5, "otherUserId": "x"}'
    answer = await town.rest.call("POST", f"{MESSAGES}/chat-rooms", raw, token=residents.alice.access_token)
    check_problem(answer, "VALIDATION_FAILED", "otherUserId")


@pytest.mark.parametrize(("path", "good", "field"), QUERY_CASES)
async def test_every_query_argument(
    town: Town, residents: Residents, path: str, good: dict[str, str], field: Field
) -> None:
    alice = town.resident(residents.alice)
    for label, value in wrong_arguments(field):
        answer = await alice.get(path.format(room=residents.room_id), **{**good, field.name: value})
        try:
            check_problem(answer, "VALIDATION_FAILED", field.name)
        except AssertionError as error:
            raise AssertionError(f"{label}: {error}") from error


async def test_a_made_up_cursor(town: Town, residents: Residents) -> None:
    alice = town.resident(residents.alice)
    for cursor in ("x", "💥", "e30=", "W10", '{"$gt":""}', "A" * 5000, "MTIzNDU2Nzg5"):
        check_problem(await alice.get(f"{MESSAGES}/chats", cursor=cursor), "VALIDATION_FAILED", "cursor")


async def test_a_search_without_words(town: Town, residents: Residents) -> None:
    alice = town.resident(residents.alice)
    check_problem(await alice.get(f"{API}/users/search"), "VALIDATION_FAILED", "q")
    check_problem(await alice.get(f"{API}/users/search", q="   "), "VALIDATION_FAILED", "q")


@pytest.mark.parametrize(
    "segment",
    [
        *("x", "%00", "a%00b", "%ff", "%ED%A0%80", "%F0%9F%92%A5", "$gt", "%7B%22$gt%22:%22%22%7D"),
        *("..", "%2e%2e", "y" * 3000),
    ],
    ids=lambda segment: segment[:12],
)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"{API}/users/{{}}", None),
        ("GET", f"{MESSAGES}/chat-rooms/{{}}", None),
        ("GET", f"{MESSAGES}/chats/{{}}/messages", None),
        ("POST", f"{MESSAGES}/chats/{{}}/messages", {"content": "x"}),
        ("POST", f"{MESSAGES}/chats/{{}}/read", {"messageId": "x"}),
    ],
)
async def test_ids_that_nothing_has(
    town: Town, residents: Residents, method: str, path: str, body: Any, segment: str
) -> None:
    alice = town.resident(residents.alice)
    options = {} if body is None else {"body": body}
    answer = await alice.call(method, path.format(segment), **options)
    assert answer.status in (400, 404), answer
    check_problem(answer, answer.body["code"])
