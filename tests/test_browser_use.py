"""The browser client in use: layout, focus, and the texts that users see."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.browser import ENTER, Browser
from tests.support.chat_page import PHONE, SIGNED_IN, open_chat, say, sign_in
from tests.support.people import Town, unique
from tests.support.rest import MESSAGES

NEW = "return document.querySelector('#messages .divider.unread') !== null"
ROW_HEIGHT = "return document.querySelector('#chat-list button').offsetHeight"
FOCUSED = "return document.activeElement.id || document.activeElement.localName"
FIELD_ERRORS = """return Object.fromEntries([...document.querySelectorAll('#sign-in [aria-invalid=true]')]
.map(field => [field.name, document.getElementById(field.getAttribute('aria-describedby')).textContent]))"""
LONG_ID = "BK-2025-11-22-very-long-booking-identifier-0001"


async def test_a_room_opens_at_the_first_unread_message(town: Town, first: Browser) -> None:
    one, other, room_id = await town.pair()
    for number in range(20):
        await one.send(room_id, f"old {number}")
    for number in range(130):
        await other.send(room_id, f"new {number}")
    sign_in(first, one)
    open_chat(first, room_id)
    first.wait_until(NEW)
    first.wait_until(
        """const list = document.getElementById('messages').getBoundingClientRect();
        const divider = document.querySelector('.divider.unread');
        return divider.nextElementSibling.textContent.includes('new 0')
            && Math.abs(divider.getBoundingClientRect().top - list.top) < 30"""
    )
    assert (await one.chat(room_id))["unreadCount"] == 130
    height = first.run(ROW_HEIGHT)
    first.click("#to-end")
    first.wait_until("return document.querySelector('#chat-list .badge') === null")
    assert first.run(ROW_HEIGHT) == height
    assert (await one.chat(room_id))["unreadCount"] == 0
    await other.send(room_id, "one more")
    first.wait_text("#messages .content", "one more")
    assert first.texts(".divider.unread") == ["New messages"], "it stays where it was"


async def test_a_history_that_comes_in_pieces_is_shown_whole(town: Town, first: Browser) -> None:
    """What one answer may hold is bounded in bytes: fifty of these messages are 3 MB of JSON."""
    one, other, room_id = await town.pair()
    count = 60
    for number in range(count):
        await other.send(room_id, f"{number}\u0001".ljust(10_000, "\u0001"))
    sign_in(first, one)
    open_chat(first, room_id)
    first.wait_until(
        "return document.querySelectorAll('#messages .content').length === arguments[0]",
        count,
    )
    shown = first.run("return [...document.querySelectorAll('#messages .content')].map(e => parseInt(e.textContent))")
    assert shown == list(range(count))


async def test_a_caption_leaves_the_name_of_a_file(town: Town, first: Browser, tmp_path: Path) -> None:
    one, _other, room_id = await town.pair()
    letter = tmp_path / "계약서 최종.txt"
    letter.write_text("signed")
    sign_in(first, one)
    open_chat(first, room_id)
    first.wait_text("#messages .divider", "No messages yet.")
    for words in ("here is the contract", ""):
        first.type("#file", str(letter))
        first.wait_until("return !document.getElementById('send').disabled")
        say(first, words)
    first.wait_until(
        """const names = [...document.querySelectorAll('#messages .file')].map(e => e.textContent);
        return names.length === 2 && names.every(name => name === arguments[0])""",
        letter.name,
    )
    assert first.texts("#messages .content") == ["here is the contract"]


async def test_a_picture_is_named_for_those_who_listen(town: Town, first: Browser, tmp_path: Path) -> None:
    one, _other, room_id = await town.pair()
    Image.new("RGB", (40, 40), "green").save(tmp_path / "garden.png")
    sign_in(first, one)
    open_chat(first, room_id)
    first.type("#file", str(tmp_path / "garden.png"))
    first.wait_until("return !document.getElementById('send').disabled")
    first.click("#send")
    first.wait_until("return document.querySelector('#messages img')?.alt === 'Picture: garden.png'")


async def test_links_keep_the_brackets_that_are_theirs(town: Town, first: Browser) -> None:
    one, _other, room_id = await town.pair()
    sign_in(first, one)
    open_chat(first, room_id)
    say(first, "https://example.com/a_(b) (see https://example.com/c), (https://example.com/d_(e)).")
    first.wait_until("return document.querySelectorAll('#messages .content a').length === 3")
    assert first.texts("#messages .content a") == [
        "https://example.com/a_(b)",
        "https://example.com/c",
        "https://example.com/d_(e)",
    ]


@pytest.mark.parametrize(("has_mouse", "place"), [(True, "text"), (False, "h2")], ids=["mouse", "touch"])
async def test_the_focus_goes_where_one_goes_on(town: Town, first: Browser, has_mouse: bool, place: str) -> None:
    one, other, room_id = await town.pair()
    await other.send(room_id, "Hello")
    first.devtools("Emulation.setDeviceMetricsOverride", **PHONE)
    sign_in(first, one)
    assert first.run(FOCUSED) == "chats-title"
    first.run("const [matches] = arguments; window.matchMedia = () => ({matches})", has_mouse)
    open_chat(first, room_id)
    assert first.run(FOCUSED) == place
    first.click(".back")
    first.wait_until("return document.activeElement.closest('[data-key]')?.dataset.key === arguments[0]", room_id)


async def test_a_long_booking_leaves_room_for_the_name(town: Town, first: Browser) -> None:
    one, other = await town.person(), await town.person("Maximiliana", "Konstantinopolitanische")
    room_id = await one.open_room(other, LONG_ID)
    first.devtools("Emulation.setDeviceMetricsOverride", **PHONE)
    sign_in(first, one)
    open_chat(first, room_id)
    name, tag = (
        first.run("return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()", selector)
        for selector in ("#room-header h2", "#room-header .tag")
    )
    assert tag["top"] >= name["bottom"] and name["width"] > PHONE["width"] / 2
    assert first.run("return document.documentElement.scrollWidth <= innerWidth")


def test_signs_differ_by_more_than_their_colour(town: Town, first: Browser) -> None:
    first.go(town.url)
    ticks = first.run(
        """return ['waiting', 'sent', 'delivered', 'read'].map(state =>
        document.querySelector(`#icon-${state} path`).getAttribute('d'))"""
    )
    assert len(set(ticks)) == len(ticks)
    offline, online = (
        first.run(
            """const dot = document.createElement('span');
            dot.className = arguments[0];
            document.querySelector('#sign-in .card').append(dot);
            return 2 * parseInt(getComputedStyle(dot).borderLeftWidth) >= dot.offsetWidth""",
            name,
        )
        for name in ("dot", "dot online")
    )
    assert (offline, online) == (False, True), "hollow, and filled by its border"


def test_an_empty_form_is_told_field_by_field_and_stays_here(town: Town, first: Browser) -> None:
    first.go(town.url)
    first.click("[data-part=submit]")
    assert first.run(FIELD_ERRORS) == {"email": "Email is missing.", "password": "Password is missing."}
    first.click("[data-part=other]")
    assert first.run(FIELD_ERRORS) == {}
    first.click("[data-part=submit]")
    assert set(first.run(FIELD_ERRORS)) == {"firstName", "lastName", "email", "password"}
    assert first.run("return document.activeElement.name") == "firstName"
    sent = "return performance.getEntriesByType('resource').filter(e => e.name.includes('/auth/')).length"
    assert first.run(sent) == 0
    assert not first.run(SIGNED_IN)


def test_what_the_server_refuses_is_told_beside_the_field(town: Town, first: Browser) -> None:
    first.go(town.url)
    first.click("[data-part=other]")
    for name, value in (("firstName", "A"), ("lastName", "B"), ("email", f"{unique()}@example.com")):
        first.type(f"[name={name}]", value)
    first.type("[name=password]", "short" + ENTER)
    first.wait_until(f"return Object.keys((() => {{ {FIELD_ERRORS} }})()).length > 0")
    assert first.run(FIELD_ERRORS) == {"password": "Password must have 8 to 1,024 characters."}
    first.type("[name=password]", "er")
    assert first.run(FIELD_ERRORS) == {}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            {"errors": [{"path": "content", "message": "must hold at most 10000 characters"}]},
            "The message must hold at most 10,000 characters.",
        ),
        (
            {"code": "PAYLOAD_TOO_LARGE", "detail": "The body may hold at most 100065536 bytes"},
            "A file may have at most 100 MB.",
        ),
        (
            {"code": "PAYLOAD_TOO_LARGE", "detail": "A picture may have at most 10000000 bytes"},
            "A picture may have at most 10 MB.",
        ),
        ({"code": "PAYLOAD_TOO_LARGE", "detail": "Payload too large"}, "The file is too large."),
        ({"code": "NOT_FOUND", "detail": "No such room"}, "No such room."),
    ],
)
def test_errors_are_told_in_sentences(town: Town, first: Browser, error: dict[str, Any], sentence: str) -> None:
    first.go(town.url)
    told = "return import('/web/js/words.js').then(words => words.sentenceOf({detail: '', ...arguments[0]}))"
    assert first.run(told, error) == sentence


async def test_a_group_is_shown_with_its_name_its_notices_and_who_said_what(town: Town, first: Browser) -> None:
    one, other, third = await town.person(), await town.person(), await town.person()
    body = {"type": "GROUP", "name": "Yard", "userIds": [one.id, third.id]}
    room_id = str((await other.post(f"{MESSAGES}/chat-rooms", body)).body["id"])
    await other.send(room_id, "by the other")
    sign_in(first, one)
    open_chat(first, room_id)
    first.wait_text("#messages .content", "by the other")
    assert "Yard" in first.texts("#chat-list .line")[0]
    assert f"{other.name} created the group" in first.texts("#messages .divider")
    await third.send(room_id, "by the third")
    first.wait_text("#messages .content", "by the third")
    assert first.texts("#messages .sender") == [other.name, third.name]
    say(first, "by me")
    first.wait_text("#messages .mine .content", "by me")
    answer = await other.call("PATCH", f"{MESSAGES}/chat-rooms/{room_id}", {"name": "Barn"})
    assert answer.status == 200
    first.wait_text("#messages .divider", f"{other.name} renamed the group to Barn")
    assert (await one.chat(room_id))["unreadCount"] == 0
