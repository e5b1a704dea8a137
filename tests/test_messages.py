"""Messages: numbers without gaps, order, idempotency on every transport, content that comes back as it was sent."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.device import TRANSPORTS, Device
from tests.support.people import Person, Town, unique
from tests.support.rest import MESSAGES, Answer
from tests.support.shapes import check_message, check_problem, check_refused

TEXTS = {
    "emoji": "👩‍👩‍👧‍👦🇰🇷🏴‍☠️",
    "rtl": "שלום \u202eabc\u202c مرحبا",
    "newlines": "\n line\r\n\ttab\n",
    "zero width": "a\u200bb\u200dc\ufeff",
    "korean": "한글 \u1112\u1161\u11ab",
    "combining": "e\u0301\u0327" * 20,
    "blanks around": "  x  ",
    "html and json": '<b>"&\\u0041\\n</b> {"$gt": ""} null',
    "controls": "\x01\x07\x1b[31m\x7f\x85\u2028",
    "longest": "한" * 10_000,
    "longest of pairs": "😀" * 10_000,
}


async def send_by_socket(device: Device, room_id: str, content: str, **fields: Any) -> dict[str, Any]:
    ack = await device.call("message:send", {"roomId": room_id, "content": content, **fields})
    assert ack["ok"] is True, ack
    return dict(ack["message"])


async def whole_history(person: Person, room_id: str) -> list[dict[str, Any]]:
    """Every message of a room, oldest first."""
    messages: list[dict[str, Any]] = []
    while True:
        page = (await person.history(room_id, after=len(messages), limit=200))["messages"]
        messages += page
        if len(page) < 200:
            return messages


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_one_connection_keeps_its_order(town: Town, transports: tuple[str, ...]) -> None:
    one, other, room_id = await town.pair()
    sender, receiver = await one.connect(transports), await other.connect(transports)
    contents = [f"{number}" for number in range(60)]
    for content in contents:  # no waiting for answers in between
        await sender.emit("message:send", {"roomId": room_id, "content": content})
    heard = [await receiver.next("message:new") for _ in contents]
    assert [message["content"] for message in heard] == contents
    assert [message["seq"] for message in heard] == list(range(1, 61))
    assert [message["content"] for message in await whole_history(one, room_id)] == contents


async def test_many_senders_share_one_gapless_order(town: Town) -> None:
    one, other, room_id = await town.pair()
    devices = [await person.connect() for person in (one, other) for _ in range(3)]

    async def talk(device: Device, name: int) -> None:
        for number in range(20):
            await send_by_socket(device, room_id, f"{name}:{number}")

    rest = asyncio.gather(*(one.send(room_id, f"rest:{number}") for number in range(20)))
    await asyncio.gather(rest, *(talk(device, name) for name, device in enumerate(devices)))
    total = 20 * 7
    history = await whole_history(other, room_id)
    assert [message["seq"] for message in history] == list(range(1, total + 1))
    for name in range(6):
        mine = [message["content"] for message in history if message["content"].startswith(f"{name}:")]
        assert mine == [f"{name}:{number}" for number in range(20)]
    for device in devices:
        heard = {(await device.next("message:new"))["seq"] for _ in range(total)}
        assert heard == set(range(1, total + 1))


async def test_the_same_client_id_gives_the_first_message_back(town: Town) -> None:
    one, other, room_id = await town.pair()
    device, witness = await one.connect(), await other.connect()
    client_id = unique("c")[:64]
    path = f"{MESSAGES}/chats/{room_id}/messages"
    first = await one.post(path, {"content": "first", "clientMessageId": client_id})
    again = await one.post(path, {"content": "first", "clientMessageId": client_id})
    by_header = await one.call("POST", path, {"content": "first"}, headers={"Idempotency-Key": client_id})
    assert (first.status, again.status, by_header.status) == (201, 200, 200)
    assert first.body["clientMessageId"] == client_id
    by_socket = await send_by_socket(device, room_id, "first", clientMessageId=client_id)
    for repeat in (again.body, by_header.body, by_socket):
        assert (repeat["messageId"], repeat["seq"], repeat["content"]) == (first.body["messageId"], 1, "first")
    elsewhere = await one.open_room(other, unique("b"))
    assert (await one.send(elsewhere, "x", clientMessageId=client_id))["messageId"] != first.body["messageId"]
    assert (await other.send(room_id, "y", clientMessageId=client_id))["seq"] == 2
    await one.send(room_id, "fence")
    await witness.next("message:new", lambda message: message["content"] == "fence")
    seen = Counter(message["messageId"] for message in witness.heard("message:new"))
    assert seen[first.body["messageId"]] == 1


async def test_the_same_client_id_with_other_content_is_refused(town: Town) -> None:
    one, _other, room_id = await town.pair()
    device = await one.connect()
    path = f"{MESSAGES}/chats/{room_id}/messages"
    first = (await one.post(path, {"content": "first", "clientMessageId": "c"})).body
    url = "https://example.com/x.png"
    for other in ({"content": "other"}, {"content": "first", "attachmentUrl": url}):
        check_problem(await one.post(path, {**other, "clientMessageId": "c"}), "CONFLICT")
        ack = await device.call("message:send", {"roomId": room_id, **other, "clientMessageId": "c"})
        check_refused(ack, "CONFLICT")
    assert (await one.room(room_id))["lastSeq"] == 1
    edited = await one.call("PATCH", f"{MESSAGES}/{first['messageId']}", {"content": "better"})
    assert edited.status == 200
    late = await one.post(path, {"content": "first", "clientMessageId": "c"})
    assert (late.status, late.body["content"]) == (200, "better"), "a late repeat of what was edited since"


async def test_the_same_client_id_from_everywhere_at_once_is_one_message(town: Town) -> None:
    """Half of them say one thing, half another: one is stored, its repeats get it, and the others are refused."""
    one, other, room_id = await town.pair()
    devices = [await one.connect(transports) for transports in TRANSPORTS.values()]
    witness = await other.connect()
    client_id = unique("c")[:64]
    path = f"{MESSAGES}/chats/{room_id}/messages"
    bodies = [{"content": f"r{n % 2}", "clientMessageId": client_id} for n in range(20)]
    posts = [one.post(path, body) for body in bodies]
    calls = [device.call("message:send", {"roomId": room_id, **body}) for device in devices for body in bodies[:6]]
    results = await asyncio.gather(*posts, *calls)
    answers = [result for result in results if isinstance(result, Answer)]
    acks = [result for result in results if not isinstance(result, Answer)]
    messages = [answer.body for answer in answers if answer.status < 300]
    messages += [ack["message"] for ack in acks if ack["ok"]]
    assert len({(message["messageId"], message["seq"], message["content"]) for message in messages}) == 1
    assert len(messages) == len(results) / 2
    assert sum(answer.status == 201 for answer in answers) <= 1
    assert {answer.status for answer in answers} <= {200, 201, 409}
    assert all(ack["error"]["code"] == "CONFLICT" for ack in acks if not ack["ok"])
    assert (await one.send(room_id, "fence"))["seq"] == 2
    await witness.next("message:new", lambda message: message["content"] == "fence")
    assert [message["seq"] for message in witness.heard("message:new")] == [1, 2]


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
async def test_content_comes_back_as_it_was_sent(town: Town, content: str) -> None:
    one, other, room_id = await town.pair()
    device, receiver = await one.connect(), await other.connect()
    assert (await send_by_socket(device, room_id, content))["content"] == content
    assert (await one.send(room_id, content))["content"] == content
    for _ in range(2):
        assert (await receiver.next("message:new"))["content"] == content
    assert [message["content"] for message in (await other.history(room_id))["messages"]] == [content, content]


def test_any_text_comes_back_as_it_was_sent(town: Town, io_loop: Any) -> None:
    one, _other, room_id = io_loop.run_sync(town.pair)
    texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(texts.filter(lambda text: text.strip()))
    def check(content: str) -> None:
        async def send() -> None:
            answer = await one.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": content})
            assert answer.status == 201 or (answer.status == 400 and not any(map(str.isprintable, content))), answer
            if answer.status == 201:
                assert answer.body["content"] == content
                stored = await one.history(room_id, after=answer.body["seq"] - 1, limit=1)
                assert stored["messages"][0]["content"] == content

        io_loop.run_sync(send)

    check()


@pytest.mark.parametrize("content", ["", " ", "\n\t\r", "\u3000\u2003"])
async def test_blank_text_is_bad_input(town: Town, content: str) -> None:
    one, _other, room_id = await town.pair()
    answer = await one.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": content})
    check_problem(answer, "VALIDATION_FAILED", "content")


@pytest.mark.parametrize(
    ("url", "asked", "kind"),
    [
        ("https://example.com/a/photo.JPG?size=2#x", None, "IMAGE"),
        ("https://example.com/photo.webp", "TEXT", "IMAGE"),
        ("http://example.com/paper.pdf", None, "FILE"),
        ("https://example.com/no-extension", None, "FILE"),
        ("https://example.com/photo.png", "FILE", "FILE"),
        ("https://example.com/paper.pdf", "IMAGE", "IMAGE"),
        ("https://example.com:8443/사진-@home/👩‍🚀.jfif?from=a@b", None, "IMAGE"),
    ],
)
async def test_the_type_of_an_attachment(town: Town, url: str, asked: str | None, kind: str) -> None:
    one, other, room_id = await town.pair()
    device, receiver = await one.connect(), await other.connect()
    for name in ("type", "messageType"):
        fields = {"attachmentUrl": url} | ({name: asked} if asked else {})
        for message in (await one.send(room_id, "", **fields), await send_by_socket(device, room_id, "", **fields)):
            check_message(message)
            assert (message["type"], message["attachmentUrl"], message["content"]) == (kind, url, "")
            assert (await receiver.next("message:new"))["messageType"] == kind


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"type": "IMAGE"}, "attachmentUrl"),
        ({"messageType": "FILE", "content": "x"}, "attachmentUrl"),
        ({"type": "VIDEO", "content": "x"}, "type"),
        ({"messageType": "text", "content": "x"}, "messageType"),
        *(
            ({"content": "x", "attachmentUrl": url}, "attachmentUrl")
            for url in (
                "",
                "javascript:alert(1)",
                "data:text/html,x",
                "ftp://example.com/x",
                "https://bank.example@example.com/x.png",
                "https://ann:secret@example.com/x.png",
                "https://@example.com/x.png",
                "https://example.com:x/x.png",
                "https://example.com/\u202egnp.exe",
                "https://example.com/\u200fx.png",
                "https://example.com/%E2%80%AEgnp.exe",
                "https://example.com/\x85.png",
                "//example.com/x.png",
                "http://",
                "https:///x.png",
                "/etc/passwd",
                "/uploads/../etc/passwd",
                "/uploads/never-given-out.png",
                "x.png",
                " https://example.com/x.png",
                "https://example.com/\nx",
            )
        ),
    ],
)
async def test_what_cannot_be_attached(town: Town, fields: dict[str, Any], path: str) -> None:
    one, _other, room_id = await town.pair()
    device = await one.connect()
    check_problem(await one.post(f"{MESSAGES}/chats/{room_id}/messages", fields), "VALIDATION_FAILED", path)
    check_refused(await device.call("message:send", {"roomId": room_id, **fields}), "VALIDATION_FAILED", path)
    assert (await one.room(room_id))["lastSeq"] == 0
