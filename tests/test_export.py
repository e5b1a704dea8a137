"""An export of one's own data: a zip with JSON and files, and nothing of others."""

import io
import json
import zipfile
from typing import Any

from tests.conftest import NO_LIMITS, StartServer
from tests.support import groups
from tests.support.people import Person, Town
from tests.support.rest import API, MESSAGES, Answer
from tests.support.shapes import check_problem
from tests.support.uploads import picture, upload

EXPORT = f"{API}/users/me/export"


async def export(person: Person) -> Answer:
    answer = await person.call("GET", EXPORT)
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    return answer


def read(answer: Answer) -> dict[str, Any]:
    """The entries by name: JSON parsed, files as they are."""
    with zipfile.ZipFile(io.BytesIO(answer.raw)) as archive:
        assert archive.testzip() is None
        raw = {name: archive.read(name) for name in archive.namelist()}
    found: dict[str, Any] = {}
    for name, data in raw.items():
        if name.endswith(".ndjson"):
            found[name] = [json.loads(line) for line in data.decode().splitlines()]
        else:
            found[name] = json.loads(data) if name.endswith(".json") else data
    return found


async def test_it_holds_everything_of_mine_and_nothing_of_others(town: Town) -> None:
    one, other = await town.people(2)
    room_id = await one.open_room(other)
    group_id = await groups.make(other, one)
    data = picture()
    file = await upload(one, data, "사진.png")
    mine = [await one.send(room_id, "first"), await one.send(group_id, "", attachmentUrl=file["fileUrl"])]
    theirs = await other.send(room_id, "not mine")
    await one.call("PATCH", f"{MESSAGES}/chats/{room_id}/settings", {"pinned": True})
    await one.post(f"{MESSAGES}/{theirs['messageId']}/report", {"reason": "SPAM"})
    await one.call("POST", f"{API}/users/{other.id}/block")
    found = read(await export(one))
    assert found["profile.json"]["email"] == one.user["email"]
    assert [session["isCurrent"] for session in found["sessions.json"]] == [True]
    assert found["blocked.json"] == [{"id": other.id, "fullName": other.name}]
    settings = {chat["chatId"]: chat["settings"]["pinned"] for chat in found["chats.json"]}
    assert settings == {room_id: True, group_id: False}
    assert [(report["messageId"], report["reason"]) for report in found["reports.json"]] == [
        (theirs["messageId"], "SPAM")
    ]
    ids = {message["messageId"] for message in found["messages.ndjson"]}
    assert ids == {message["messageId"] for message in mine}
    assert found[f"files/{file['fileId']}-사진.png"] == data
    assert len(found) == 7
    assert not (read(await export(other)).keys() - {name for name in found if not name.startswith("files/")})


async def test_of_somebody_who_has_nothing(town: Town) -> None:
    found = read(await export(await town.person()))
    assert found["messages.ndjson"] == found["chats.json"] == found["blocked.json"] == found["reports.json"] == []


async def test_more_messages_than_one_read_holds(town: Town) -> None:
    one, _other, room_id = await town.pair()
    device = await one.connect()
    for number in range(620):
        await device.emit("message:send", {"roomId": room_id, "content": str(number)})
    await device.call("message:send", {"roomId": room_id, "content": "620"})
    found = read(await export(one))["messages.ndjson"]
    assert [message["content"] for message in found] == [str(number) for number in range(621)]


async def test_it_is_limited(start_server: StartServer, town_at: Any) -> None:
    town = town_at(start_server({**NO_LIMITS, "limits.enabled": True, "limits.exports_per_hour": 2}))
    person = await town.person()
    for _ in range(2):
        await export(person)
    check_problem(await person.call("GET", EXPORT), "RATE_LIMITED")
    head = await person.call("HEAD", EXPORT)
    assert (head.status, head.raw) == (200, b"")
