"""Reports of messages: kept for the admins, once for each reporter, whatever becomes of the message."""

import json
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support import groups
from tests.support.people import Person, Town
from tests.support.rest import MESSAGES, Answer
from tests.support.shapes import check_problem


async def report(person: Person, message_id: str, **fields: Any) -> Answer:
    return await person.post(f"{MESSAGES}/{message_id}/report", {"reason": "SPAM", **fields})


async def test_a_report_keeps_what_was_said(start_server: StartServer, town_at: Any) -> None:
    server = start_server()
    one, other, room_id = await town_at(server).pair()
    message = await other.send(room_id, "buy this")
    assert (await report(one, message["messageId"], text="He does that every day")).status == 204
    assert (await report(one, message["messageId"], reason="ABUSE")).status == 204, "also when reported before"
    device = await other.connect()
    assert await device.call("message:report", {"messageId": message["messageId"], "reason": "MINE"}) == {"ok": True}
    await device.leave()
    assert (await other.call("DELETE", f"{MESSAGES}/{message['messageId']}")).status == 200
    server.stop()
    printed = server.run("reports")
    kept = [json.loads(line) for line in printed.splitlines()]
    assert [(entry["reporterId"], entry["reason"], entry["text"]) for entry in kept] == [
        (other.id, "MINE", None),
        (one.id, "SPAM", "He does that every day"),
    ]
    for entry in kept:
        assert (entry["content"], entry["senderId"], entry["roomId"]) == ("buy this", other.id, room_id)
        assert (entry["messageId"], entry["sentAt"]) == (message["messageId"], message["timestamp"])


async def test_messages_of_others_are_not_there(town: Town) -> None:
    one, _other, room_id = await town.pair()
    message_id = (await one.send(room_id))["messageId"]
    stranger = await town.person()
    refused = await report(stranger, message_id)
    check_problem(refused, "NOT_FOUND")
    assert refused.body == (await report(stranger, "unknown")).body


@pytest.mark.parametrize(
    ("field", "value"), [("reason", ""), ("reason", "x" * 101), ("reason", None), ("text", "x" * 2001), ("text", 7)]
)
async def test_bad_reports_are_named(town: Town, field: str, value: Any) -> None:
    one, _other, room_id = await town.pair()
    message_id = (await one.send(room_id))["messageId"]
    check_problem(await report(one, message_id, **{field: value}), "VALIDATION_FAILED", field)


async def test_notices_and_deleted_messages_cannot_be_reported(town: Town) -> None:
    owner, member = await town.people(2)
    room_id = await groups.make(owner, member)
    notice = (await owner.history(room_id))["messages"][0]["messageId"]
    check_problem(await report(member, notice), "CONFLICT")
    gone = (await owner.send(room_id))["messageId"]
    await owner.call("DELETE", f"{MESSAGES}/{gone}")
    check_problem(await report(member, gone), "CONFLICT")
