"""The browser client with messages that change: edits, deletions, reactions and replies, by pointer and keyboard."""

from tests.support.browser import ENTER, Browser
from tests.support.chat_page import open_chat, say, sign_in
from tests.support.people import Town
from tests.support.rest import MESSAGES
from tests.support.waiting import eventually

THUMB = "\N{THUMBS UP SIGN}"
OPEN_MENU = "document.querySelectorAll('#messages .message')[arguments[0]].querySelector('summary').click()"
PRESS = """const menu = document.querySelector('details.actions[open]');
[...menu.querySelectorAll('button')].find(button => button.textContent.startsWith(arguments[0])).click()"""
MENUS = "return document.querySelectorAll('details.actions[open]').length"


def choose(browser: Browser, number: int, words: str) -> None:
    """Open the menu of a message and press one of its buttons."""
    browser.run(OPEN_MENU, number)
    browser.run(PRESS, words)


async def test_one_edits_answers_reacts_and_deletes(town: Town, first: Browser) -> None:
    one, other, room_id = await town.pair()
    device = await other.connect()
    sign_in(first, one)
    open_chat(first, room_id)
    say(first, "helo")
    first.wait_text("#messages .content", "helo")
    heard = await device.next("message:new")
    first.wait_until("return document.querySelector('#messages summary') !== null")
    choose(first, 0, "Edit")
    first.run("document.getElementById('text').value = ''")
    first.type("#text", "hello" + ENTER)
    first.wait_text("#messages .content", "hello")
    first.wait_until("return document.querySelector('#messages .meta').textContent.includes('Edited')")
    assert (await device.next("message:changed"))["message"]["content"] == "hello"

    choose(first, 0, THUMB)
    told = await device.next("message:changed")
    assert told["message"]["reactions"] == [{"emoji": THUMB, "count": 1, "userIds": [one.id], "mine": False}]
    first.wait_until("return document.querySelector('.reaction[aria-pressed=true]') !== null")
    first.click(".reaction")
    assert "reactions" not in (await device.next("message:changed"))["message"]

    choose(first, 0, "Reply")
    say(first, "as I said")
    answer = await device.next("message:new")
    assert answer["replyTo"]["messageId"] == heard["messageId"]
    first.wait_text("#messages .quote span", "hello")

    choose(first, 0, "Delete")
    first.run(PRESS, "Delete for everybody?")
    first.wait_text("#messages .deleted", "This message was deleted")
    assert (await device.next("message:changed"))["kind"] == "DELETED"
    first.wait_text("#messages .quote span", "This message was deleted")
    history = (await other.history(room_id, after=0))["messages"]
    assert [message["content"] for message in history] == ["", "as I said"]


async def test_changes_of_others_are_shown_and_caught_up(town: Town, first: Browser) -> None:
    one, other, room_id = await town.pair()
    sent = [await other.send(room_id, words) for words in ("first", "second")]
    sign_in(first, one)
    open_chat(first, room_id)
    first.wait_text("#messages .content", "second")
    path = f"{MESSAGES}/{sent[0]['messageId']}"
    await other.call("PATCH", path, {"content": "first!"})
    first.wait_until("return document.querySelector('#messages .content').textContent === 'first!'")
    await other.call("PUT", f"{path}/pin")
    first.wait_until("return document.querySelector('#messages .meta').textContent.includes('Pinned')")
    await other.call("DELETE", f"{MESSAGES}/{sent[1]['messageId']}")
    first.wait_text("#messages .deleted", "This message was deleted")
    first.wait_until("return document.querySelector('#chat-list .last, #chat-list button').textContent.length > 0")

    async def is_listed() -> bool:
        return "second" not in str(first.run("return document.getElementById('chat-list').textContent"))

    await eventually(is_listed, "the list of chats shows nothing of it")


async def test_the_menu_is_for_the_keyboard_too(town: Town, first: Browser) -> None:
    one, other, room_id = await town.pair()
    await other.send(room_id, "press a key")
    sign_in(first, one)
    open_chat(first, room_id)
    first.wait_text("#messages .content", "press a key")
    first.type("#messages summary", ENTER)
    assert first.run(MENUS) == 1
    assert "Edit" not in first.texts(".menu button"), "only one's own"
    first.type("#messages summary", "\ue00c")
    first.wait_until(f"{MENUS} === 0")
    assert first.run("return document.activeElement.localName") == "summary"
