"""Two people hold a conversation in two real browsers. Skipped loudly where chromium is not installed."""

import zipfile
from pathlib import Path

from PIL import Image

from tests.support.browser import ENTER, Browser
from tests.support.chat_page import ALL_TICKED, PHONE, PICTURE_SHOWN, SHOWN, open_chat, register, say, sign_in
from tests.support.people import Town, unique


def test_two_people_hold_a_conversation(town: Town, first: Browser, second: Browser) -> None:
    last_name = unique("Kim")
    register(first, town.url, "Jiwoo", unique("Park"))
    register(second, town.url, "민수", last_name)
    first.click("#new-chat")
    first.type("#people-booking", "BK-1042")
    first.type("#people-words", last_name)
    first.click("#people-found button")
    first.wait_text("#room-header", "Booking BK-1042")
    first.wait_text("#room-header", "online")
    first.type("#text", "안녕하세요! <b>Is it</b> free?")
    say(first, " <img src=x onerror=document.title='broken'>")
    second.wait_text("#chat-list .badge", "1")
    second.click("#chat-list button")
    second.wait_text("#messages .theirs", "안녕하세요! <b>Is it</b> free? <img src=x onerror=document.title='broken'>")
    second.wait_until("return document.querySelector('#chat-list .badge') === null")
    first.wait_until(ALL_TICKED, "read", 1)
    second.type("#text", "네, 비어 있습니다")
    first.wait_text("#typing", "is typing")
    say(second, "")
    first.wait_text("#messages .theirs", "네, 비어 있습니다")
    first.wait_until("return document.getElementById('typing').textContent === ''")
    say(first, "Thank you")
    second.wait_text("#messages .theirs", "Thank you")
    first.wait_until(ALL_TICKED, "read", 2)
    second.wait_until(ALL_TICKED, "read", 1)
    assert first.run(SHOWN) == second.run(SHOWN)
    for browser in (first, second):
        assert browser.run("return document.title") == "Madang"
        assert browser.console_errors() == []


async def test_ticks_grow_from_sent_to_delivered_to_read(town: Town, first: Browser, second: Browser) -> None:
    one, other, room_id = await town.pair()
    sign_in(first, one)
    open_chat(first, room_id)
    say(first, "one")
    first.wait_until("return document.querySelector('.tick.sent') !== null")
    sign_in(second, other)
    first.wait_until("return document.querySelector('.tick.delivered') !== null")
    open_chat(second, room_id)
    first.wait_until("return document.querySelector('.tick.read') !== null")
    assert (await other.chat(room_id))["unreadCount"] == 0


async def test_scrolling_back_reaches_the_first_message(town: Town, first: Browser) -> None:
    one, _other, room_id = await town.pair()
    for number in range(130):
        await one.send(room_id, f"message {number + 1}")
    sign_in(first, one)
    open_chat(first, room_id)
    first.wait_text("#messages .content", "message 130")
    first.run(
        """const list = document.getElementById('messages');
        list.scrollTop = 0;
        [window.seen] = [...list.querySelectorAll('.message')].slice(2);
        window.seenAt = window.seen.getBoundingClientRect().top"""
    )
    older = "return document.querySelector('#messages .content').textContent === arguments[0]"
    first.wait_until(older, "message 31")
    moved = first.run("return Math.abs(window.seen.getBoundingClientRect().top - window.seenAt)")
    assert moved < 40, "what was in sight stays where it was, but for the line that named the day"
    first.run("document.getElementById('messages').scrollTop = 0")
    first.wait_until(older, "message 1")
    assert first.run(SHOWN) == [f"message {number + 1}" for number in range(130)]


async def test_a_phone_shows_the_list_or_the_room(town: Town, first: Browser) -> None:
    one, other, room_id = await town.pair()
    await other.send(room_id, "Hello")
    first.devtools("Emulation.setDeviceMetricsOverride", **PHONE)
    sign_in(first, one)
    visible = "return document.querySelector(arguments[0]).checkVisibility()"
    assert first.run(visible, ".side") and not first.run(visible, "#conversation")
    open_chat(first, room_id)
    assert first.run(visible, "#conversation") and not first.run(visible, ".side")
    assert first.run("return document.documentElement.scrollWidth <= innerWidth")
    first.click(".back")
    first.wait_until("return document.querySelector('.side').checkVisibility()")


async def test_pictures_and_files_are_shown_and_named(
    town: Town, first: Browser, second: Browser, tmp_path: Path
) -> None:
    one, other, room_id = await town.pair()
    opaque, clear, archive = tmp_path / "room.jpg", tmp_path / "sign.png", tmp_path / "계약서.zip"
    Image.new("RGB", (1200, 800), "green").save(opaque)
    Image.new("RGBA", (600, 600), (0, 0, 0, 0)).save(clear)
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("page.txt", "signed")
    for browser, person in ((first, one), (second, other)):
        sign_in(browser, person)
        open_chat(browser, room_id)
    first.type("#file", str(opaque))
    first.wait_until("return document.querySelector('#attachment img')?.naturalWidth")
    say(first, "the room")
    assert second.wait_until(PICTURE_SHOWN) == 480, "the small copy, not the whole"
    assert "the room" in second.texts("#messages .content")
    second.type("#file", str(archive))
    second.wait_text("#attachment", archive.name)
    second.wait_until("return !document.getElementById('send').disabled")
    second.click("#send")
    first.wait_text("#messages .file", archive.name)
    first.type("#file", str(clear))
    first.wait_until("return document.querySelector('#attachment img')?.naturalWidth")
    first.click("#send")
    second.wait_until("return document.querySelectorAll('#messages .picture').length === 2")
    second.wait_until(
        "return [...document.querySelectorAll('#messages .picture img')].every(e => e.naturalWidth === 480)"
    )
    assert [message["type"] for message in (await one.history(room_id))["messages"]] == ["IMAGE", "FILE", "IMAGE"]


async def test_enter_that_ends_a_syllable_does_not_send(town: Town, first: Browser) -> None:
    one, _other, room_id = await town.pair()
    sign_in(first, one)
    open_chat(first, room_id)
    first.type("#text", "안녕")
    press = (
        "document.getElementById('text').dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, %s}))"
    )
    first.run(press % "isComposing: true")
    first.run(press % "shiftKey: true")
    assert first.run("return document.getElementById('text').value") == "안녕"
    first.type("#text", ENTER)
    first.wait_text("#messages .content", "안녕")
    assert first.run("return document.getElementById('text').value") == ""
