"""One error shape: problem+json over REST, the same object in acknowledgements and in `exception`."""

from typing import Any

import pytest

from server.errors import RateLimited
from tests.conftest import Residents
from tests.support.people import PASSWORD, Town
from tests.support.rest import API, MESSAGES, Answer
from tests.support.shapes import check_error, check_problem, check_refused

SHARED_KEYS = {"code", "status", "detail"}
PROBLEM_KEYS = SHARED_KEYS | {"type", "title"}
UNKNOWN = "0" * 32


def keys_of(error: dict[str, Any]) -> set[str]:
    return set(error) - {"errors", "retryAfter"}


async def provoke(town: Town, residents: Residents) -> dict[str, Answer]:
    """One answer of each kind of failure that a request can bring about by itself."""
    alice = town.resident(residents.alice)
    taken = {"email": alice.user["email"], "password": PASSWORD, "firstName": "A", "lastName": "B"}
    messages = f"{MESSAGES}/chats/{residents.room_id}/messages"
    return {
        "VALIDATION_FAILED": await alice.post(messages, {"content": 7}),
        "UNAUTHORIZED": await town.rest.call("GET", f"{API}/users/me"),
        "NOT_FOUND": await alice.get(f"{MESSAGES}/chat-rooms/{UNKNOWN}"),
        "METHOD_NOT_ALLOWED": await alice.call("PUT", f"{API}/users/me", {}),
        "CONFLICT": await town.rest.call("POST", f"{API}/auth/register", taken),
        "PAYLOAD_TOO_LARGE": await alice.post(messages, {"content": "x" * 300_000}),
    }


@pytest.mark.parametrize(("seconds", "told"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.4, 2), (59.001, 60)])
def test_who_waits_as_long_as_told_has_waited_long_enough(seconds: float, told: int) -> None:
    assert RateLimited(limit="limits.events", retry_after=seconds).body().retry_after == told


async def test_every_rest_error_has_one_shape(town: Town, residents: Residents) -> None:
    for code, answer in (await provoke(town, residents)).items():
        check_problem(answer, code)
        assert keys_of(answer.body) == PROBLEM_KEYS, answer
        assert ("errors" in answer.body) == (code == "VALIDATION_FAILED"), answer
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("event", "payload", "code", "path"),
    [
        ("message:send", {"roomId": UNKNOWN, "content": 7}, "VALIDATION_FAILED", "content"),
        ("message:send", {"roomId": UNKNOWN, "content": "x"}, "NOT_FOUND", None),
        ("message:read", {"messageId": UNKNOWN}, "NOT_FOUND", None),
        ("room:join", {"roomId": UNKNOWN}, "NOT_FOUND", None),
        ("sync", {"rooms": {UNKNOWN: 0}}, "NOT_FOUND", f"rooms.{UNKNOWN}"),
        ("nobody:knows", {}, "NOT_FOUND", None),
    ],
)
async def test_a_socket_error_is_the_same_with_and_without_acknowledgement(
    town: Town, residents: Residents, event: str, payload: Any, code: str, path: str | None
) -> None:
    device = await town.resident(residents.alice).connect()
    ack = await device.call(event, payload)
    check_refused(ack, code, path)
    assert keys_of(ack["error"]) == SHARED_KEYS
    await device.emit(event, payload)
    told = await device.next("exception")
    check_error(told, code, path)
    assert told == {**ack["error"], "event": event}


async def test_an_acknowledged_error_is_not_told_twice(town: Town, residents: Residents) -> None:
    device = await town.resident(residents.alice).connect()
    check_refused(await device.call("room:join", {"roomId": UNKNOWN}), "NOT_FOUND")
    await device.round_trip()
    assert device.heard("exception") == []


async def test_rest_and_socket_name_the_same_fault_alike(town: Town, residents: Residents) -> None:
    alice = town.resident(residents.alice)
    device = await alice.connect()
    for fault in ({"content": 7}, {"content": "  "}, {"content": "x", "clientMessageId": "y" * 65}, {"type": "IMAGE"}):
        ack = await device.call("message:send", {"roomId": residents.room_id, **fault})
        answer = await alice.post(f"{MESSAGES}/chats/{residents.room_id}/messages", fault)
        check_problem(answer, "VALIDATION_FAILED")
        assert ack["error"] == {key: answer.body[key] for key in ack["error"]}, (fault, ack, answer)


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        ({"content": 7}, "content: expected a string or null, got a whole number"),
        ({"content": []}, "content: expected a string or null, got a list"),
        ({"clientMessageId": ""}, "clientMessageId: expected a string of at least 1 character"),
        ({"clientMessageId": "y" * 65}, "clientMessageId: expected a string of at most 64 characters"),
        ({"type": "TEXT - at `$.x`"}, "type: is not one of the known values"),
    ],
)
async def test_what_is_wrong_is_said_in_plain_words(
    town: Town, residents: Residents, payload: dict[str, Any], detail: str
) -> None:
    path = f"{MESSAGES}/chats/{residents.room_id}/messages"
    answer = await town.resident(residents.alice).post(path, payload)
    check_problem(answer, "VALIDATION_FAILED", next(iter(payload)))
    assert answer.body["detail"] == detail


async def test_limits_are_said_in_plain_words(town: Town, residents: Residents) -> None:
    alice = town.resident(residents.alice)
    answer = await alice.get(f"{MESSAGES}/chats", limit=101)
    assert answer.body["detail"] == "limit: expected a whole number of at most 100"
    answer = await alice.post(f"{MESSAGES}/chats/{residents.room_id}/messages", {"content": "x" * 300_000})
    assert answer.body["detail"] == "The body may have at most 128 KiB"


async def test_a_refused_connection_carries_the_same_object(town: Town) -> None:
    error = await town.device().refused(None)
    check_error(error["data"], "UNAUTHORIZED")
    assert error["message"]
