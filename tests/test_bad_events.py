"""Bad input over the socket: every field of every event, payloads that are no object; always acknowledged."""

from typing import Any

import pytest

from tests.conftest import Residents
from tests.support.people import Town
from tests.support.shapes import check_error, check_refused
from tests.support.wrong_values import Field, number_map, text, text_list, wrong_values

ROOM = (text("roomId", required=True),)
MESSAGE = (text("messageId", required=True),)
EVENTS: dict[str, tuple[Field, ...]] = {
    "message:send": (
        text("roomId", required=True),
        text("content", 10_000, required=True),
        text("type", 10),
        text("messageType", 10),
        text("attachmentUrl", 4096),
        text("clientMessageId", 64),
    ),
    "message:read": MESSAGE,
    "message:delivered": MESSAGE,
    "chat:settings": ROOM,
    "message:report": (*MESSAGE, text("reason", 100, required=True), text("text", 2_000)),
    "user:block": (text("userId", required=True),),
    "user:unblock": (text("userId", required=True),),
    "session:end": (text("sessionId", required=True),),
    "typing:start": ROOM,
    "typing:stop": ROOM,
    "room:join": ROOM,
    "room:leave": ROOM,
    "presence:get": (text_list("userIds", 200),),
    "sync": (number_map("rooms"),),
    "auth:refresh": (text("token", required=True),),
}
# Their good payloads would change what other tests use.
CHANGING = {"user:block", "session:end"}
NO_OBJECT: list[Any] = [None, 7, 1.5, True, "x", [], [[]], [{}], ["roomId", "x"]]


def good_payload(event: str, residents: Residents) -> dict[str, Any]:
    samples: dict[str, Any] = {
        "roomId": residents.room_id,
        "content": "x",
        "reason": "SPAM",
        "userId": "unknown",
        "sessionId": "unknown",
        "messageId": residents.message_id,
        "userIds": [residents.bob.id],
        "rooms": {residents.room_id: 0},
        "token": residents.alice.access_token,
    }
    return {field.name: samples[field.name] for field in EVENTS[event] if field.is_required}


def names(path: str, field: Field) -> bool:
    """Whether a path is the field's, or of something inside a list or a map."""
    inner = {"map": ".", "list": "["}.get(field.kind)
    return path == field.name or (inner is not None and path.startswith(field.name + inner))


@pytest.mark.parametrize("event", EVENTS)
async def test_every_field_of_every_event(town: Town, residents: Residents, event: str) -> None:
    device = await town.resident(residents.alice).connect()
    for field in EVENTS[event]:
        for label, fault in wrong_values(field, good_payload(event, residents)):
            ack = await device.call(event, fault)
            try:
                check_refused(ack, "VALIDATION_FAILED")
                paths = [error["path"] for error in ack["error"]["errors"]]
                assert any(names(path, field) for path in paths)
            except (AssertionError, KeyError) as error:
                raise AssertionError(f"{event} {field.name}, {label}: {error!r} {ack}") from error
    await device.round_trip()


@pytest.mark.parametrize("event", EVENTS)
async def test_all_wrong_fields_are_named(town: Town, residents: Residents, event: str) -> None:
    device = await town.resident(residents.alice).connect()
    ack = await device.call(event, {field.name: 7 for field in EVENTS[event]})
    check_refused(ack, "VALIDATION_FAILED")
    assert {error["path"] for error in ack["error"]["errors"]} == {field.name for field in EVENTS[event]}, ack


async def test_all_wrong_entries_are_named_as_far_as_that_is_of_use(town: Town, residents: Residents) -> None:
    device = await town.resident(residents.alice).connect()
    rooms: dict[str, Any] = {f"room-{number}": number for number in range(4000)}
    wrong = [f"room-{number}" for number in range(0, 4000, 400)]
    ack = await device.call("sync", {"rooms": {**rooms, **dict.fromkeys(wrong, "x")}})
    check_refused(ack, "VALIDATION_FAILED")
    assert [error["path"] for error in ack["error"]["errors"]] == [f"rooms.{name}" for name in wrong], ack
    ack = await device.call("sync", {"rooms": dict.fromkeys(rooms, "x")})
    check_refused(ack, "VALIDATION_FAILED", "rooms.room-0")
    assert 10 <= len(ack["error"]["errors"]) <= 500, len(ack["error"]["errors"])
    ack = await device.call("presence:get", {"userIds": ["x", 7, "", None, "y"]})
    check_refused(ack, "VALIDATION_FAILED")
    assert [error["path"] for error in ack["error"]["errors"]] == ["userIds[1]", "userIds[2]", "userIds[3]"], ack


async def test_too_many_entries_are_told_before_what_is_wrong_with_each(town: Town, residents: Residents) -> None:
    device = await town.resident(residents.alice).connect()
    ack = await device.call("sync", {"rooms": {**{f"{number}": 0 for number in range(5001)}, "x": "wrong"}})
    check_refused(ack, "VALIDATION_FAILED", "rooms")
    assert ack["error"]["detail"] == "rooms: expected an object of at most 5000 entries"
    ack = await device.call("presence:get", {"userIds": [*map(str, range(200)), 7]})
    assert ack["error"]["detail"] == "userIds: expected a list of at most 200 items"


@pytest.mark.parametrize("event", EVENTS)
async def test_a_payload_that_is_no_object(town: Town, residents: Residents, event: str) -> None:
    device = await town.resident(residents.alice).connect()
    for payload in NO_OBJECT:
        check_refused(await device.call(event, payload), "VALIDATION_FAILED")
        await device.emit(event, payload)
        told = await device.next("exception")
        check_error(told, "VALIDATION_FAILED")
        assert told["event"] == event


@pytest.mark.parametrize("event", EVENTS)
async def test_no_payload_at_all_and_too_many(town: Town, residents: Residents, event: str) -> None:
    raw = await town.raw_chat(residents.alice.access_token)
    await raw.send(f'42/chat,1["{event}"]')
    assert '"VALIDATION_FAILED"' in await raw.packet("43/chat,1")
    await raw.send(f'42/chat,2["{event}",{{}},{{}},7,null]')
    assert '"VALIDATION_FAILED"' in await raw.packet("43/chat,2")


@pytest.mark.parametrize("event", sorted(EVENTS.keys() - CHANGING))
async def test_unknown_fields_are_ignored(town: Town, residents: Residents, event: str) -> None:
    device = await town.resident(residents.alice).connect()
    payload = good_payload(event, residents) | {"$where": "1", "nobodyKnows": {"a": [1]}, "senderId": residents.bob.id}
    if event == "message:send":
        payload["clientMessageId"] = "bad-events"
    ack = await device.call(event, payload)
    assert ack["ok"] is True, ack
    if event == "message:send":
        assert ack["message"]["senderId"] == residents.alice.id


@pytest.mark.parametrize("identifier", ["", "x", "..", "$gt", "💥", "y" * 3000])
async def test_ids_that_nothing_has(town: Town, residents: Residents, identifier: str) -> None:
    device = await town.resident(residents.alice).connect()
    for event, fields in EVENTS.items():
        name = fields[0].name
        if name not in ("roomId", "messageId"):
            continue
        ack = await device.call(event, {**good_payload(event, residents), name: identifier})
        assert ack["ok"] is False and ack["error"]["code"] in ("NOT_FOUND", "VALIDATION_FAILED"), (event, ack)
    ack = await device.call("presence:get", {"userIds": [identifier]})
    assert ack["ok"] or ack["error"]["code"] == "VALIDATION_FAILED", ack
