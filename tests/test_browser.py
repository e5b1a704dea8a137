"""Two people hold a conversation in two real browsers. Skipped loudly where chromium is not installed."""

import socket
import warnings
from collections.abc import Iterator
from urllib.parse import quote

import jwt
import pytest

from tests.conftest import StartServer
from tests.support.browser import ENTER, Browser, Browsers, find_programs
from tests.support.people import PASSWORD, Person, Town, unique
from tests.support.rest import API
from tests.support.shapes import check_problem

PHONE = {"width": 390, "height": 780, "deviceScaleFactor": 1, "mobile": True}
SIGNED_IN = "return !document.getElementById('chats').hidden"
CONNECTED = "return document.getElementById('connection').dataset.state === 'online'"
SHOWN = "return [...document.querySelectorAll('#messages .content')].map(e => e.textContent)"
ALL_READ = """const ticks = [...document.querySelectorAll('#messages .tick')];
return ticks.length === arguments[0] && ticks.every(tick => tick.classList.contains('read'))"""


@pytest.fixture(scope="session")
def browsers() -> Iterator[Browsers]:
    programs = find_programs()
    if programs is None:
        reason = "chromium and chromedriver are not installed (Debian: apt install chromium chromium-driver)"
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"THE CLIENT WAS NOT TRIED IN A BROWSER: {reason}", stacklevel=2)
        pytest.skip(reason)
    opened = Browsers(*programs)
    yield opened
    opened.close()


@pytest.fixture
def first(browsers: Browsers) -> Iterator[Browser]:
    browser = browsers.open()
    yield browser
    browser.close()


@pytest.fixture
def second(browsers: Browsers) -> Iterator[Browser]:
    browser = browsers.open()
    yield browser
    browser.close()


def sign_in(browser: Browser, person: Person) -> None:
    browser.go(person.town.url)
    browser.type("[name=email]", person.user["email"])
    browser.type("[name=password]", PASSWORD + ENTER)
    browser.wait_until(CONNECTED)


def register(browser: Browser, url: str, first_name: str, last_name: str) -> None:
    browser.go(url)
    browser.click("[data-part=other]")
    fields = {"firstName": first_name, "lastName": last_name, "email": f"{unique()}@example.com", "password": PASSWORD}
    for name, value in fields.items():
        browser.type(f"[name={name}]", value)
    browser.click("[data-part=submit]")
    browser.wait_until(SIGNED_IN)


def open_chat(browser: Browser, room_id: str) -> None:
    browser.click(f"[data-key='{room_id}'] button")
    browser.wait_until("return document.getElementById('messages').getAttribute('aria-busy') === 'false'")


def say(browser: Browser, text: str) -> None:
    browser.type("#text", text + ENTER)


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
    first.wait_until(ALL_READ, 1)
    second.type("#text", "네, 비어 있습니다")
    first.wait_text("#typing", "is typing")
    say(second, "")
    first.wait_text("#messages .theirs", "네, 비어 있습니다")
    first.wait_until("return document.getElementById('typing').textContent === ''")
    say(first, "Thank you")
    second.wait_text("#messages .theirs", "Thank you")
    first.wait_until(ALL_READ, 2)
    second.wait_until(ALL_READ, 1)
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
    one, other, room_id = await town.pair()
    for number in range(130):
        await other.send(room_id, f"message {number + 1}")
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


async def test_what_is_written_while_the_server_is_away_arrives_once(
    start_server: StartServer, town_at, first: Browser
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start_server({"server.port": port})
    town = town_at(server)
    one, other, room_id = await town.pair()
    sign_in(first, one)
    open_chat(first, room_id)
    say(first, "before")
    first.wait_until("return document.querySelector('.tick.sent') !== null")
    server.kill()
    first.wait_text("#connection", "Not connected")
    say(first, "while away 1")
    say(first, "while away 2")
    assert first.run("return document.querySelectorAll('.tick.waiting').length") == 2
    server.restart()
    await other.send(room_id, "from the other")
    first.wait_until("return document.querySelectorAll('.tick.sent').length === 3")
    first.wait_text("#messages .content", "from the other")
    first.go(f"{town.url}/#/chats/{quote(room_id)}")
    first.run("location.reload()")
    first.wait_text("#messages .content", "while away 2")
    history = await one.history(room_id)
    stored = [message["content"] for message in reversed(history["messages"])]
    assert [text for text in stored if text.startswith("while")] == ["while away 1", "while away 2"]
    assert len(stored) == 4
    first.wait_until(f"return JSON.stringify((() => {{ {SHOWN} }})()) === JSON.stringify(arguments[0])", stored)


async def test_the_connection_goes_on_under_new_tokens(start_server: StartServer, town_at, first: Browser) -> None:
    town = town_at(start_server({"auth.access_ttl": "12s"}))
    one, _other, room_id = await town.pair()
    sign_in(first, one)
    open_chat(first, room_id)
    first.run(
        """window.states = [];
        const line = document.getElementById('connection');
        new MutationObserver(() => window.states.push(line.dataset.state)).observe(line, {attributes: true});
        window.firstToken = JSON.parse(sessionStorage.getItem('madang.session')).accessToken"""
    )
    claims = jwt.decode(first.run("return window.firstToken"), options={"verify_signature": False})
    first.wait_until("return JSON.parse(sessionStorage.getItem('madang.session')).accessToken !== window.firstToken")
    first.wait_until("return Date.now() > arguments[0] * 1000 + 500", claims["exp"])
    say(first, "still here")
    first.wait_until("return document.querySelector('.tick.sent') !== null")
    assert first.run("return window.states") == []


async def test_signing_out_ends_the_session(town: Town, first: Browser) -> None:
    one, _other, _room_id = await town.pair()
    sign_in(first, one)
    refresh_token = first.run("return JSON.parse(sessionStorage.getItem('madang.session')).refreshToken")
    first.click("#sign-out")
    first.wait_until("return !document.getElementById('sign-in').hidden")
    assert first.run("return sessionStorage.length") == 0
    check_problem(await town.rest.call("POST", f"{API}/auth/refresh", {"refreshToken": refresh_token}), "UNAUTHORIZED")


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


async def test_a_wrong_password_is_told(town: Town, first: Browser) -> None:
    person = await town.person()
    first.go(town.url)
    first.type("[name=email]", person.user["email"])
    first.type("[name=password]", "wrong password" + ENTER)
    first.wait_until("return document.querySelector('#sign-in .error').textContent !== ''")
    assert not first.run(SIGNED_IN)
