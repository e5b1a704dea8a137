"""Serving files: headers, ranges, conditional requests; and no path leads out of the folder."""

from urllib.parse import quote

import pytest

from tests.conftest import UPLOADS, StartServer
from tests.support.people import Town
from tests.support.shapes import check_problem
from tests.support.uploads import HTML, PDF, fetch, picture, upload

DATA = bytes(range(256)) * 2000  # several chunks of either store


async def test_headers_of_a_picture(upload_town: Town) -> None:
    person = await upload_town.person()
    data = picture("JPEG")
    stored = await upload(person, data, "사진 🏖️.jpg")
    answer = await fetch(person, stored["fileUrl"])
    assert (answer.status, answer.raw) == (200, data)
    headers = answer.headers
    assert headers["Content-Type"] == "image/jpeg"
    assert headers["Content-Length"] == str(len(data))
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert {"default-src 'none'", "sandbox"} <= set(headers["Content-Security-Policy"].split("; "))
    assert {"max-age=31536000", "immutable"} <= set(headers["Cache-Control"].split(", "))
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Content-Disposition"] == (
        "inline; filename=\"__ __.jpg\"; filename*=UTF-8''%EC%82%AC%EC%A7%84%20%F0%9F%8F%96%EF%B8%8F.jpg"
    )
    small = await fetch(person, stored["thumbnailUrl"])
    assert small.headers["Content-Disposition"].startswith("inline")
    assert small.headers["ETag"] != headers["ETag"]


@pytest.mark.parametrize(
    ("kind", "name", "served"),
    [
        ("PNG", "page.html", "page.png"),
        ("PNG", "tool.exe.jpg", "tool.exe.png"),
        ("PNG", "picture", "picture.png"),
        ("PNG", ".png", ".png"),
        ("JPEG", "Photo.JFIF", "Photo.JFIF"),
        ("JPEG", "photo.jpeg", "photo.jpeg"),
        ("GIF", "a.svg", "a.gif"),
        ("WEBP", f"{'x' * 251}.txt", f"{'x' * 250}.webp"),
        ("WEBP", "no. this is no extension", "no. this is no extension.webp"),
    ],
)
async def test_a_picture_is_handed_out_under_an_extension_of_its_kind(
    upload_town: Town, kind: str, name: str, served: str
) -> None:
    person = await upload_town.person()
    stored = await upload(person, picture(kind), name)
    assert stored["fileName"] == name, "to its sender it is what they called it"
    told = (await fetch(person, stored["fileUrl"])).headers["Content-Disposition"]
    assert told == f"inline; filename=\"{served}\"; filename*=UTF-8''{quote(served)}"


@pytest.mark.parametrize("data", [PDF, HTML, b"\x00", b'<svg xmlns="http://www.w3.org/2000/svg"/>'])
async def test_all_else_is_an_attachment(upload_town: Town, data: bytes) -> None:
    person = await upload_town.person()
    stored = await upload(person, data, 'a "b"\\.html')
    headers = (await fetch(person, stored["fileUrl"])).headers
    assert headers["Content-Disposition"].startswith("attachment; ")
    assert not {"html", "svg", "xml", "script"} & set(headers["Content-Type"].replace("/", " ").split())
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=260000-270000", 260_000, 270_001),
        ("bytes=511999-", 511_999, 512_000),
        ("bytes=511990-999999999", 511_990, 512_000),
        ("bytes=-5", 511_995, 512_000),
        ("bytes=-999999999", 0, 512_000),
        ("bytes=0-", 0, 512_000),
    ],
)
async def test_a_range(upload_town: Town, asked: str, first: int, end: int) -> None:
    person = await upload_town.person()
    stored = await upload(person, DATA)
    answer = await fetch(person, stored["fileUrl"], Range=asked)
    assert (answer.status, answer.raw) == (206, DATA[first:end])
    assert answer.headers["Content-Range"] == f"bytes {first}-{end - 1}/512000"
    assert answer.headers["Content-Length"] == str(end - first)


async def test_ranges_that_cannot_be_given(upload_town: Town) -> None:
    person = await upload_town.person()
    stored = await upload(person, DATA)
    for asked in ("bytes=512000-", "bytes=512000-512001", "bytes=-0"):
        answer = await fetch(person, stored["fileUrl"], Range=asked)
        check_problem(answer, "RANGE_NOT_SATISFIABLE")
        assert answer.headers["Content-Range"] == "bytes */512000"
    # What is no range, or many of them, may be answered with the whole.
    for asked in ("bytes=5-1", "bytes=a-b", "bytes=-", "lines=1-2", "bytes=0-1,5-9", "bytes= 1-2", "x" * 1000):
        answer = await fetch(person, stored["fileUrl"], Range=asked)
        assert (answer.status, answer.raw) == (200, DATA)


async def test_conditions_and_head(upload_town: Town) -> None:
    person = await upload_town.person()
    stored = await upload(person, DATA)
    url = stored["fileUrl"]
    tag = (await fetch(person, url)).headers["ETag"]
    for same in (tag, f'"x", {tag}', "*", f"W/{tag}"):
        answer = await fetch(person, url, If_None_Match=same)
        assert (answer.status, answer.raw, answer.headers["ETag"]) == (304, b"", tag)
    assert (await fetch(person, url, If_None_Match='"x"')).raw == DATA
    assert (await fetch(person, url, Range="bytes=1-2", If_Range=tag)).raw == DATA[1:3]
    assert (await fetch(person, url, Range="bytes=1-2", If_Range='"x"')).raw == DATA
    head = await fetch(person, url, "HEAD")
    assert (head.status, head.raw, head.headers["Content-Length"]) == (200, b"", "512000")
    assert head.headers["ETag"] == tag


async def test_no_path_leads_elsewhere(upload_town: Town) -> None:
    person = await upload_town.person()
    stored = await upload(person, picture())
    name = stored["fileUrl"].removeprefix("/uploads/")
    paths = [
        "", ".", "..", "../config.yaml", "..%2fconfig.yaml", "%2e%2e/jwt_secret", f"x/{name}", f"{name}/", f"{name}%00",
        f"./{name}", name.upper(), name.replace(".png", ".gif"), name.replace(".", "-thumb."), f"{'0' * 40}.png",
        stored["fileId"], f"{stored['fileId']}.", f"{name}.png", f"%2f{name}", "x" * 5000,
    ]  # fmt: skip
    for path in paths:
        check_problem(await fetch(person, f"/uploads/{path}"), "NOT_FOUND")
    for method in ("POST", "PUT", "DELETE"):
        answer = await upload_town.rest.call(method, stored["fileUrl"])
        check_problem(answer, "METHOD_NOT_ALLOWED")


async def test_links_are_not_followed(start_server: StartServer, town_at) -> None:
    process = start_server(UPLOADS)
    person = await town_at(process).person()
    secret = process.data_dir / "elsewhere"
    secret.mkdir()
    (secret / "plain").write_text("secret")
    first, second = await upload(person, PDF), await upload(person, PDF)
    paths = [process.data_dir / "uploads" / "files" / stored["fileId"][:2] for stored in (first, second)]
    (paths[0] / first["fileId"]).unlink()
    (paths[0] / first["fileId"]).symlink_to(secret / "plain")
    (secret / second["fileId"]).write_text("secret")
    if paths[0] != paths[1]:
        (paths[1] / second["fileId"]).unlink()
        paths[1].rmdir()
        paths[1].symlink_to(secret, target_is_directory=True)
        check_problem(await fetch(person, second["fileUrl"]), "NOT_FOUND")
    check_problem(await fetch(person, first["fileUrl"]), "NOT_FOUND")
