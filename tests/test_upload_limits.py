"""Limits of uploads, enforced while the bytes arrive; and nothing is left of incomplete ones."""

import asyncio
from pathlib import Path

from tests.conftest import UPLOADS, StartServer
from tests.support.people import Town
from tests.support.shapes import check_problem
from tests.support.uploads import BOUNDARY, HalfUpload, form, picture, post_form, upload
from tests.support.waiting import eventually

START = form(b"\x00" * 100_000).removesuffix(f"\r\n--{BOUNDARY}--\r\n".encode())
MORE = b"\x00" * 100_000


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


async def test_a_file_may_be_as_large_as_its_kind(upload_town: Town) -> None:
    person = await upload_town.person()
    assert (await upload(person, b"\x00" * 600_000))["size"] == 600_000
    refused = await post_form(person, form(b"\x00" * 600_001))
    check_problem(refused, "PAYLOAD_TOO_LARGE")
    assert refused.body["detail"] == "A file may have at most 600 KB"
    refused = await post_form(person, form(b"\x00" * 700_000))
    assert refused.body["detail"] == "A file may have at most 600 KB"
    large_picture = picture("PNG", (440, 360))
    assert 300_000 < len(large_picture) < 600_000
    for fields in ({}, {"type": "IMAGE"}, {"type": "FILE"}):
        check_problem(await post_form(person, form(large_picture, **fields)), "PAYLOAD_TOO_LARGE")


async def test_too_much_is_refused_before_it_is_sent(upload_town: Town) -> None:
    person = await upload_town.person()
    declared = await HalfUpload.begin(person, length=50_000_000)
    assert await declared.status() == 413
    declared.cut()
    for length in (None, 650_000):
        growing = await HalfUpload.begin(person, length=length)
        send = growing.send_chunk if length is None else growing.send
        await send(START)
        for _ in range(5):
            await send(MORE)
        # One more than a file may have; the form that holds it may have a little more.
        await send(MORE[:20_000])
        assert await growing.status() == 413
        growing.cut()


async def test_a_refused_sender_gets_the_answer_to_read(upload_town: Town) -> None:
    """The rest of its body is taken and dropped, as many clients read only after they have sent everything."""
    person = await upload_town.person()
    for body in (form(b"\x00" * 20_000_000), form(picture("PNG", (700, 700)))):
        for _ in range(3):
            check_problem(await post_form(person, body), "PAYLOAD_TOO_LARGE")


async def test_the_quota_is_shared_by_uploads_at_once(upload_town: Town) -> None:
    person = await upload_town.person()
    answers = await asyncio.gather(*(post_form(person, form(b"\x00" * 500_000)) for _ in range(6)))
    stored = [answer for answer in answers if answer.status == 201]
    for answer in answers:
        if answer not in stored:
            check_problem(answer, "PAYLOAD_TOO_LARGE")
    assert len(stored) <= 4
    for _ in range(4 - len(stored)):  # those that got in each other's way
        await upload(person, b"\x00" * 500_000)
    check_problem(await post_form(person, form(b"x")), "PAYLOAD_TOO_LARGE")
    assert (await upload(await upload_town.person(), b"x"))["size"] == 1


async def test_a_refused_or_broken_upload_leaves_nothing(start_server: StartServer, town_at) -> None:
    process = start_server(UPLOADS)
    person = await town_at(process).person()
    folder = process.data_dir / "uploads"
    refused = (form(b"\x00" * 700_000), form(picture()[:-50]), form(b"x", type="IMAGE"), form(b"x")[:-9])
    for body in refused:
        assert (await post_form(person, body)).status in (400, 413, 415)
    half = await HalfUpload.begin(person, length=500_000)
    await half.send(START)

    async def arrives() -> bool:
        return bool(files_in(folder))

    async def is_gone() -> bool:
        return not files_in(folder)

    await eventually(arrives, "the upload has begun")
    half.cut()
    await eventually(is_gone, "nothing is left of it")


async def test_what_a_killed_server_was_receiving_is_swept(start_server: StartServer, town_at) -> None:
    process = start_server(UPLOADS)
    person = await town_at(process).person()
    folder = process.data_dir / "uploads"
    data = picture()
    whole = await upload(person, data)
    kept = set(files_in(folder))
    half = await HalfUpload.begin(person, length=500_000)
    await half.send(START)

    async def arrives() -> bool:
        return len(files_in(folder)) > len(kept)

    await eventually(arrives, "the upload has begun")
    process.kill()
    half.cut()
    assert len(files_in(folder)) > len(kept)
    process.restart()
    assert set(files_in(folder)) == kept
    again = town_at(process)
    assert (await again.rest.call("GET", whole["fileUrl"])).raw == data
    assert (await upload(again.resident(person), data))["size"] == len(data)


async def test_a_stalled_upload_holds_nobody_up(upload_town: Town) -> None:
    one, other, room_id = await upload_town.pair()
    device = await other.connect()
    stalled = [await HalfUpload.begin(one, length=500_000) for _ in range(20)]
    for half in stalled:
        await half.send(START)
    assert (await upload(other, picture()))["type"] == "IMAGE"
    await one.send(room_id, "still here")
    assert (await device.next("message:new"))["content"] == "still here"
    for half in stalled:
        half.cut()
