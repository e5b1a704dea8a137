"""Uploads: the type comes from the content; images get dimensions and a thumbnail; errors name the reason."""

import io
from typing import Any

import pytest
from PIL import Image

from tests.support.people import Person, Town
from tests.support.rest import MESSAGES
from tests.support.shapes import check_message, check_problem
from tests.support.uploads import (
    BOUNDARY,
    FORM,
    GIF_AND_HTML,
    GPS_MARK,
    HTML,
    PDF,
    SVG,
    UPLOAD,
    bomb,
    fetch,
    form,
    part,
    photograph,
    picture,
    post_form,
    upload,
    zip_file,
)

END = f"--{BOUNDARY}--\r\n".encode()
NAMES = {
    "사진 1.png": "사진 1.png",
    "🏖️ été.png": "🏖️ été.png",
    "../../etc/passwd": "passwd",
    "C:\\Users\\me\\a b.pdf": "a b.pdf",
    "..": "file.bin",
    "": "file.bin",
    "photo\u202egnp.exe": "photognp.exe",
    "a\tb.txt": "ab.txt",
    "say %22hi%22.txt": 'say "hi".txt',
    "trailing. . ": "trailing",
    "é" * 200 + ".png": "é" * 125 + ".png",
}


async def open_picture(person: Person, url: str) -> Image.Image:
    answer = await fetch(person, url)
    assert answer.status == 200, answer
    opened = Image.open(io.BytesIO(answer.raw))
    opened.load()
    return opened


async def test_the_flow_of_the_guide(upload_town: Town) -> None:
    one, other, room_id = await upload_town.pair()
    sender, receiver = await one.connect(), await other.connect()
    data = picture("JPEG")
    body = b"".join([part("file", data, "file.jpg"), part("type", b"IMAGE"), part("purpose", b"PROJECT"), END])
    answer = await post_form(one, body)
    assert answer.status == 201, answer
    stored = answer.body
    assert stored["fileUrl"].startswith("/uploads/")
    assert (stored["type"], stored["purpose"], stored["fileName"]) == ("IMAGE", "PROJECT", "file.jpg")
    message = {"content": "Check this image", "attachmentUrl": stored["fileUrl"], "messageType": "IMAGE"}
    ack = await sender.call("message:send", {"roomId": room_id, **message})
    assert ack["ok"], ack
    by_rest = await one.post(f"{MESSAGES}/chats/{room_id}/messages", {"attachmentUrl": stored["fileUrl"]})
    assert by_rest.status == 201, by_rest
    for _ in range(2):
        heard = await receiver.next("message:new")
        check_message(heard)
        assert (heard["type"], heard["attachmentUrl"]) == ("IMAGE", stored["fileUrl"])
    assert (await fetch(other, stored["fileUrl"])).raw == data


@pytest.mark.parametrize(
    ("kind", "mime_type", "extension", "mode"),
    [
        ("PNG", "image/png", "png", "RGB"),
        ("PNG", "image/png", "png", "RGBA"),
        ("PNG", "image/png", "png", "I;16"),
        ("PNG", "image/png", "png", "1"),
        ("JPEG", "image/jpeg", "jpg", "RGB"),
        ("JPEG", "image/jpeg", "jpg", "CMYK"),
        ("JPEG", "image/jpeg", "jpg", "L"),
        ("WEBP", "image/webp", "webp", "RGBA"),
        ("GIF", "image/gif", "gif", "P"),
    ],
)
async def test_pictures(upload_town: Town, kind: str, mime_type: str, extension: str, mode: str) -> None:
    person = await upload_town.person()
    data = picture(kind, (120, 600), mode) if mode != "I;16" else _grey_of_16_bits()
    stored = await upload(person, data, "holiday.txt")
    assert stored["mimeType"] == mime_type
    assert stored["fileUrl"].endswith(f".{extension}")
    assert (stored["type"], stored["size"], stored["purpose"]) == ("IMAGE", len(data), None)
    assert (stored["width"], stored["height"]) == (120, 600)
    assert (await fetch(person, stored["fileUrl"])).raw == data
    small = await open_picture(person, stored["thumbnailUrl"])
    assert small.size == (96, 480)
    assert small.has_transparency_data == (mode == "RGBA")


def _grey_of_16_bits() -> bytes:
    buffer = io.BytesIO()
    Image.new("I;16", (120, 600), 40_000).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("extension", ["jfif", "JPE", "apng", "avif", "svgz", "cur", "png"])
async def test_no_name_makes_a_picture_of_what_is_none(upload_town: Town, extension: str) -> None:
    one, other = await upload_town.people(2)
    stored = await upload(one, zip_file(), f"photo.{extension}")
    assert (stored["type"], stored["fileUrl"].rpartition(".")[2]) == ("FILE", "zip")
    message = await one.send(await one.open_room(other), "", attachmentUrl=stored["fileUrl"])
    assert message["type"] == "FILE"


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_a_photograph_is_seen_upright_and_its_small_one_tells_nothing(
    upload_town: Town, orientation: int
) -> None:
    person = await upload_town.person()
    data = photograph((800, 400), orientation)
    assert GPS_MARK in data
    stored = await upload(person, data, "p.jpg", type="IMAGE")
    is_turned = orientation >= 5
    assert (stored["width"], stored["height"]) == ((400, 800) if is_turned else (800, 400))
    small = await open_picture(person, stored["thumbnailUrl"])
    assert small.size == ((240, 480) if is_turned else (480, 240))
    answer = await fetch(person, stored["thumbnailUrl"])
    assert GPS_MARK not in answer.raw
    assert b"Exif" not in answer.raw
    assert not small.getexif()
    # The upper half is red as stored; where it is seen is what the orientation says.
    left, top = small.size[0] // 10, small.size[1] // 10
    spots = {"top": (small.size[0] // 2, top), "left": (left, small.size[1] // 2)}
    red_at = {1: "top", 2: "top", 5: "left", 8: "left"}
    for name, spot in spots.items():
        red, _green, blue = small.convert("RGB").getpixel(spot)
        if orientation in red_at and red_at[orientation] == name:
            assert red > 200 > 60 > blue, (orientation, name)


@pytest.mark.parametrize(
    ("data", "name", "mime_type", "extension"),
    [
        (PDF, "paper.png", "application/pdf", "pdf"),
        (zip_file(), "a.zip", "application/zip", "zip"),
        (zip_file(), "보고서.docx", "application/zip", "docx"),
        (zip_file(), "a.jpg", "application/zip", "zip"),
        ("안녕하세요\n".encode(), "note", "text/plain", "txt"),
        (("한" * 5000).encode(), "long.md", "text/plain", "md"),
        (SVG, "a.svg", "text/plain", "txt"),
        (HTML, "a.html", "text/plain", "txt"),
        (b"\x00\x01\x02", "a.html", "application/octet-stream", "bin"),
        (b"\x7fELF\x02\x01\x01\x00", "tool", "application/octet-stream", "bin"),
        (b"\x00\x00\x00\x18ftypheic" + b"\x00" * 16, "IMG_1.HEIC", "image/heic", "bin"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
async def test_other_files(upload_town: Town, data: bytes, name: str, mime_type: str, extension: str) -> None:
    person, other, room_id = await upload_town.pair()
    stored = await upload(person, data, name)
    assert (stored["type"], stored["mimeType"], stored["size"]) == ("FILE", mime_type, len(data))
    assert stored["fileUrl"].endswith(f".{extension}")
    assert not {"width", "height", "thumbnailUrl"} & stored.keys()
    answer = await fetch(other, stored["fileUrl"])
    assert answer.raw == data
    assert answer.headers["Content-Disposition"].startswith("attachment")
    message = await person.send(room_id, "", attachmentUrl=stored["fileUrl"])
    assert message["type"] == "FILE"


@pytest.mark.parametrize("name", NAMES)
async def test_names(upload_town: Town, name: str) -> None:
    person = await upload_town.person()
    stored = await upload(person, b"\x00\x01", name)
    assert stored["fileName"] == NAMES[name]
    assert len(stored["fileName"].encode()) <= 255


async def test_a_name_in_the_extended_form_alone(upload_town: Town) -> None:
    body = form(b"hello", "NAME").replace(b'filename="NAME"', b"filename*=utf-8''%EC%82%AC%EC%A7%84%201.txt")
    answer = await post_form(await upload_town.person(), body)
    assert (answer.status, answer.body["fileName"]) == (201, "사진 1.txt")


@pytest.mark.parametrize(
    "data",
    [
        picture("JPEG", (400, 300))[:2000],
        picture("PNG", (200, 200))[:3000],
        picture("GIF", (200, 200), "P")[:2000],
        picture("WEBP", (300, 300))[:3000],
        bomb(),
        b"\x89PNG\r\n\x1a\n" + b"\x00" * 100,
        b"\xff\xd8\xff" + bytes(range(256)),
        GIF_AND_HTML,
    ],
    ids=["jpeg", "png", "gif", "webp", "bomb", "empty png", "jpeg of nonsense", "polyglot"],
)
async def test_what_is_no_whole_picture(upload_town: Town, data: bytes) -> None:
    person = await upload_town.person()
    for fields in ({}, {"type": "IMAGE"}):
        check_problem(await post_form(person, form(data, "a.png", **fields)), "UNSUPPORTED_MEDIA_TYPE")
    stored = await upload(person, data, "a.png", type="FILE")
    assert (stored["type"], stored["mimeType"]) == ("FILE", "application/octet-stream")
    assert stored["fileUrl"].endswith(".bin")
    answer = await fetch(person, stored["fileUrl"])
    assert answer.headers["Content-Disposition"].startswith("attachment")
    # The next picture finds a worker that is well.
    assert (await upload(person, picture()))["type"] == "IMAGE"


async def test_a_picture_sent_as_a_mere_file(upload_town: Town) -> None:
    person = await upload_town.person()
    stored = await upload(person, picture(), "a.png", type="FILE")
    assert (stored["type"], stored["mimeType"], stored["width"]) == ("FILE", "image/png", 64)


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (form(PDF, "a.png", type="IMAGE"), "VALIDATION_FAILED", "type"),
        (form(SVG, "a.svg", type="IMAGE"), "VALIDATION_FAILED", "type"),
        (form(PDF, type="VIDEO"), "VALIDATION_FAILED", "type"),
        (form(PDF, type="image"), "VALIDATION_FAILED", "type"),
        (form(PDF, purpose="x" * 51), "VALIDATION_FAILED", "purpose"),
        (form(PDF, purpose="x" * 5000), "VALIDATION_FAILED", "purpose"),
        (form(PDF, purpose="a\x00b"), "VALIDATION_FAILED", "purpose"),
        (form(b""), "VALIDATION_FAILED", "file"),
        (part("type", b"FILE") + END, "VALIDATION_FAILED", "file"),
        (part("file", b"no file") + END, "VALIDATION_FAILED", "file"),
        (part("purpose", b"\xff") + part("file", PDF, "a") + END, "VALIDATION_FAILED", "purpose"),
        (END, "VALIDATION_FAILED", "file"),
        (b"", "VALIDATION_FAILED", None),
        (b"nonsense", "VALIDATION_FAILED", None),
        (form(PDF)[:-10], "VALIDATION_FAILED", None),
        (part("x", b"") * 21 + form(PDF), "VALIDATION_FAILED", None),
    ],
)
async def test_bad_forms(upload_town: Town, body: bytes, code: str, path: str | None) -> None:
    person = await upload_town.person()
    check_problem(await post_form(person, body), code, path)


@pytest.mark.parametrize(
    "content_type", ["application/json", "multipart/form-data", "multipart/mixed; boundary=x", "", "text/plain"]
)
async def test_what_is_no_form(upload_town: Town, content_type: str) -> None:
    person = await upload_town.person()
    check_problem(await post_form(person, form(PDF), {"Content-Type": content_type}), "UNSUPPORTED_MEDIA_TYPE")


async def test_parts_that_nobody_asked_for_are_dropped(upload_town: Town) -> None:
    person = await upload_town.person()
    parts: list[Any] = [part("x", b"1"), part("file", PDF, "a.pdf"), part("file", SVG, "b.svg"), part("y", PDF, "c")]
    answer = await post_form(person, b"".join(parts) + part("type", b"FILE") + part("type", b"IMAGE") + END)
    assert answer.status == 201, answer
    assert (answer.body["fileName"], answer.body["size"], answer.body["type"]) == ("a.pdf", len(PDF), "FILE")


async def test_an_upload_needs_a_token(upload_town: Town) -> None:
    answer = await upload_town.rest.call("POST", UPLOAD, form(PDF), headers=FORM)
    check_problem(answer, "UNAUTHORIZED")
    check_problem(await upload_town.rest.call("GET", UPLOAD), "METHOD_NOT_ALLOWED")
