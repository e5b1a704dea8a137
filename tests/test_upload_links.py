"""Attachments: who may attach which upload, and what happens to unused ones."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.conftest import NO_LIMITS, StartServer
from tests.support.device import DEADLINE
from tests.support.people import Person, Town
from tests.support.rest import API, MESSAGES, Answer
from tests.support.shapes import check_problem, check_refused
from tests.support.uploads import PDF, fetch, picture, upload
from tests.support.waiting import eventually

ME = f"{API}/users/me"


async def attach(person: Person, room_id: str, url: str) -> Answer:
    return await person.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": "x", "attachmentUrl": url})


async def set_portrait(person: Person, url: str | None) -> Answer:
    return await person.call("PATCH", ME, {"profileImage": url})


async def use_in_time(person: Person, use: Callable[[str], Awaitable[Answer]]) -> dict[str, Any]:
    """Upload and use it before its short life ends; on a slow machine not every try is quick enough."""
    async with asyncio.timeout(DEADLINE):
        while True:
            stored = await upload(person, picture())
            if (await use(stored["fileUrl"])).status in (200, 201):
                return stored


async def test_a_strangers_upload_cannot_be_attached(upload_town: Town) -> None:
    one, other, room_id = await upload_town.pair()
    device = await other.connect()
    stored = await upload(one, picture())
    url: str = stored["fileUrl"]
    stem = url.rpartition(".")[0]
    unknown = f"/uploads/{'0' * 40}.png"
    answers = []
    for wrong in (url, stored["thumbnailUrl"], unknown):
        answer = await attach(other, room_id, wrong)
        check_problem(answer, "VALIDATION_FAILED", "attachmentUrl")
        answers.append(answer.body)
        ack = await device.call("message:send", {"roomId": room_id, "content": "x", "attachmentUrl": wrong})
        check_refused(ack, "VALIDATION_FAILED", "attachmentUrl")
    assert answers[0] == answers[1] == answers[2]
    for wrong in (f"{stem}.gif", f"{stem}-thumb.png", f"{url}/x", f"{url}?x", url.upper(), f"/uploads/../uploads{url}"):
        check_problem(await attach(one, room_id, wrong), "VALIDATION_FAILED", "attachmentUrl")
    assert (await one.room(room_id))["lastSeq"] == 0
    for right in (url, url, stored["thumbnailUrl"]):
        assert (await attach(one, room_id, right)).body["type"] == "IMAGE"


async def test_what_one_was_sent_can_be_passed_on(upload_town: Town) -> None:
    one, other, room_id = await upload_town.pair()
    third = await upload_town.person()
    url: str = (await upload(one, picture()))["fileUrl"]
    onward = await other.open_room(third)
    check_problem(await attach(other, onward, url), "VALIDATION_FAILED", "attachmentUrl")
    assert (await attach(one, room_id, url)).status == 201
    assert (await attach(other, onward, url)).status == 201
    # The third shares no room with the one who made it.
    check_problem(await attach(third, onward, url), "VALIDATION_FAILED", "attachmentUrl")


async def test_a_message_that_is_refused_links_nothing(upload_town: Town) -> None:
    one, _other, _room_id = await upload_town.pair()
    stored = await upload(one, picture())
    check_problem(await attach(one, "no-such-room", stored["fileUrl"]), "NOT_FOUND")


async def test_a_profile_shows_ones_own_upload(upload_town: Town) -> None:
    one, other, _room_id = await upload_town.pair()
    stored = await upload(one, picture())
    for url in (stored["fileUrl"], stored["thumbnailUrl"]):
        answer = await set_portrait(one, url)
        assert (answer.status, answer.body["profileImage"]) == (200, url)
        check_problem(await set_portrait(other, url), "VALIDATION_FAILED", "profileImage")
    for url in (f"/uploads/{'0' * 40}.png", "/uploads/x.png"):
        check_problem(await set_portrait(one, url), "VALIDATION_FAILED", "profileImage")
    request = {"email": "x@example.com", "password": "correct horse", "firstName": "A", "lastName": "B"}
    answer = await one.town.rest.call("POST", f"{API}/auth/register", {**request, "profileImage": stored["fileUrl"]})
    check_problem(answer, "VALIDATION_FAILED", "profileImage")
    assert (await set_portrait(one, None)).body["profileImage"] is None


@pytest.mark.parametrize("store", ["disk", "gridfs"])
async def test_what_nothing_uses_is_removed(start_server: StartServer, town_at, store: str) -> None:
    short = {"uploads.orphan_ttl": "1500ms", "sweep.interval": "200ms", "uploads.store": store}
    process = start_server({**NO_LIMITS, **short})
    one, other, room_id = await town_at(process).pair()
    sent = await use_in_time(one, lambda url: attach(one, room_id, url))
    shown = await use_in_time(one, lambda url: set_portrait(one, url))
    sent_and_shown = await use_in_time(other, lambda url: set_portrait(other, url))
    assert (await attach(other, room_id, sent_and_shown["fileUrl"])).status == 201
    unused = await upload(one, picture())

    async def is_gone(stored: dict[str, Any]) -> bool:
        return (await fetch(one, stored["fileUrl"])).status == 404

    await eventually(lambda: is_gone(unused), "the unused upload is removed")
    assert (await fetch(one, unused["thumbnailUrl"])).status == 404
    check_problem(await attach(one, room_id, unused["fileUrl"]), "VALIDATION_FAILED", "attachmentUrl")
    # A second round of waiting: whatever was not used would be gone by its end as well.
    late = await upload(one, PDF)
    assert (await set_portrait(other, None)).status == 200
    await eventually(lambda: is_gone(late), "the second unused upload is removed")
    for used in (sent, shown, sent_and_shown):
        assert (await fetch(one, used["fileUrl"])).status == 200
    assert (await set_portrait(one, None)).status == 200
    await eventually(lambda: is_gone(shown), "what the profile showed is removed")
    if store == "disk":
        kept = {str(used["fileId"]) for used in (sent, sent_and_shown)}

        async def only_these_are_left() -> bool:
            # What has no address any more loses its bytes right after it.
            names = {path.name for path in (process.data_dir / "uploads" / "files").rglob("*") if path.is_file()}
            return names == kept | {f"{name}-thumb" for name in kept}

        await eventually(only_these_are_left, "no bytes are left of what was removed")
