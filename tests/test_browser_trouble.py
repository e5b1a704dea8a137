"""The browser client when things go wrong: a killed server, expired tokens, copied tabs, refused files."""

import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import jwt
import pytest

from tests.conftest import StartServer
from tests.support.browser import ENTER, Browser
from tests.support.chat_page import CONNECTED, SHOWN, SIGNED_IN, open_chat, say, sign_in
from tests.support.people import Town
from tests.support.ports import free_port
from tests.support.rest import API
from tests.support.server_process import ROOT
from tests.support.shapes import check_problem

TOKEN_RENEWED = "return JSON.parse(sessionStorage.getItem('madang.session')).accessToken !== window.firstToken"
NO_WEBSOCKETS = """window.WebSocket = class {
    constructor() { setTimeout(() => this.onerror?.()); }
    close() {}
}"""
# A screen that no page of history fills.
TALL = {"width": 1100, "height": 8000, "deviceScaleFactor": 1, "mobile": False}
REMEMBER_TOKEN = "window.firstToken = JSON.parse(sessionStorage.getItem('madang.session')).accessToken"


async def test_what_is_written_while_the_server_is_away_arrives_once(
    start_server: StartServer, town_at, first: Browser
) -> None:
    port = free_port()
    server = start_server({"server.port": port})
    town = town_at(server)
    one, other, room_id = await town.pair()
    sign_in(first, one)
    open_chat(first, room_id)
    say(first, "before")
    first.wait_until("return document.querySelector('.tick.sent') !== null")
    first.wait_until("return document.querySelector('.dot') !== null")
    server.kill()
    first.wait_text("#connection", "Not connected")
    assert first.run("return document.querySelector('.dot')") is None, "nobody knows who is online"
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


@pytest.mark.embedded_stores
async def test_the_page_begins_anew_when_the_database_was_restored(
    start_server: StartServer, town_at, first: Browser, tmp_path: Path
) -> None:
    port = free_port()
    server = start_server({"server.port": port})
    one, other, room_id = await town_at(server).pair()
    await other.send(room_id, "kept")
    # Whoever signs in after the backup has to do so again.
    sign_in(first, one)
    open_chat(first, room_id)
    server.stop()
    shutil.copytree(server.data_dir, tmp_path / "backup")
    server.start()
    for text in ("lost 1", "lost 2"):
        await other.send(room_id, text)
    first.wait_text("#messages .content", "lost 2")
    # Not killed: its database would go on for a moment, in the folder that is put back.
    server.stop()
    shutil.rmtree(server.data_dir)
    shutil.copytree(tmp_path / "backup", server.data_dir)
    command = [sys.executable, str(ROOT / "main.py"), "epoch", "--new", "--set", f"data_dir={server.data_dir}"]
    subprocess.run(command, check=True, timeout=60)
    server.start()
    await other.send(room_id, "after 1")
    first.wait_until(f"return JSON.stringify((() => {{ {SHOWN} }})()) === JSON.stringify(['kept', 'after 1'])")
    say(first, "heard you")
    first.wait_until("return document.querySelector('.tick.sent') !== null")
    assert [message["content"] for message in (await one.history(room_id))["messages"]] == [
        "heard you",
        "after 1",
        "kept",
    ]


async def test_the_connection_goes_on_under_new_tokens(start_server: StartServer, town_at, first: Browser) -> None:
    town = town_at(start_server({"auth.access_ttl": "12s"}))
    one, _other, room_id = await town.pair()
    sign_in(first, one)
    open_chat(first, room_id)
    first.run(
        """window.states = [];
        const line = document.getElementById('connection');
        new MutationObserver(() => window.states.push(line.dataset.state)).observe(line, {attributes: true})"""
    )
    first.run(REMEMBER_TOKEN)
    claims = jwt.decode(first.run("return window.firstToken"), options={"verify_signature": False})
    first.wait_until(TOKEN_RENEWED)
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
    first.wait_until("return performance.getEntriesByType('resource').some(e => e.name.endsWith('/auth/logout'))")
    check_problem(await town.rest.call("POST", f"{API}/auth/refresh", {"refreshToken": refresh_token}), "UNAUTHORIZED")


async def test_a_wrong_password_is_told(town: Town, first: Browser) -> None:
    person = await town.person()
    first.go(town.url)
    first.type("[name=email]", person.user["email"])
    first.type("[name=password]", "wrong password" + ENTER)
    first.wait_until("return document.querySelector('[data-part=error]').textContent !== ''")
    assert not first.run(SIGNED_IN)


async def test_a_copied_tab_shares_the_session(start_server: StartServer, town_at, first: Browser) -> None:
    """A refresh token works once: two tabs that used the same one would both be signed out."""
    town = town_at(start_server({"auth.access_ttl": "6s"}))
    one, _other, _room_id = await town.pair()
    sign_in(first, one)
    first.run("window.open(location.href)")
    tabs = first.tabs(2)
    for tab in tabs:
        first.switch_to(tab)
        first.wait_until(CONNECTED)
        first.run(REMEMBER_TOKEN)
    for tab in tabs:
        first.switch_to(tab)
        first.wait_until(TOKEN_RENEWED)
        assert first.run(SIGNED_IN)


async def test_a_refused_file_is_told(town: Town, first: Browser, tmp_path: Path) -> None:
    one, _other, room_id = await town.pair()
    sign_in(first, one)
    open_chat(first, room_id)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 500)
    first.type("#file", str(damaged))
    first.wait_text("#composer-error", "damaged.png")
    assert first.run("return document.getElementById('attachment').hidden")


async def test_who_leaves_the_page_is_offline_and_who_comes_back_is_online(town: Town, first: Browser) -> None:
    """The browser keeps the page that was left, with its connection, for the way back."""
    one, other, _room_id = await town.pair()
    device = await other.connect()
    sign_in(first, one)
    assert (await device.next("user:online"))["userId"] == one.id
    first.run("window.isKept = true; location.href = '/healthz'")
    assert (await device.next("user:offline"))["userId"] == one.id
    first.run("history.back()")
    first.wait_until(
        "return window.isKept === true && document.getElementById('connection').dataset.state === 'online'"
    )


async def test_where_websockets_are_blocked_it_polls_and_still_says_goodbye(town: Town, first: Browser) -> None:
    one, other, room_id = await town.pair()
    device = await other.connect()
    first.devtools("Page.addScriptToEvaluateOnNewDocument", source=NO_WEBSOCKETS)
    sign_in(first, one)
    assert (await device.next("user:online"))["userId"] == one.id
    open_chat(first, room_id)
    await other.send(room_id, "can you hear me?")
    first.wait_text("#messages .theirs", "can you hear me?")
    say(first, "yes")
    assert (await device.next("message:new", lambda message: message["senderId"] == one.id))["content"] == "yes"
    first.run("location.href = '/healthz'")
    # Without a goodbye its pings would have to stay away first: 45 s, longer than this waits.
    assert (await device.next("user:offline"))["userId"] == one.id


async def test_a_machine_that_slept_knows_at_once_that_its_connection_is_old(town: Town, first: Browser) -> None:
    one, _other, _room_id = await town.pair()
    sign_in(first, one)
    first.run(
        """window.states = [];
        const line = document.getElementById('connection');
        new MutationObserver(() => window.states.push(line.dataset.state)).observe(line, {attributes: true});
        const plain = Date.now;
        Date.now = () => plain() + 3_600_000;
        document.dispatchEvent(new Event('visibilitychange'))"""
    )
    first.wait_until("return window.states.join() === 'offline,online'")


async def test_what_is_here_is_shown_while_the_server_gives_no_more(town: Town, first: Browser) -> None:
    one, other, room_id = await town.pair()
    for number in range(60):
        await other.send(room_id, f"{number + 1}")
    sign_in(first, one)
    first.run(
        """window.isLimited = true;
        const plain = window.fetch;
        const problem = {code: 'RATE_LIMITED', detail: 'Too many requests', retryAfter: 1};
        window.fetch = (address, ...rest) => window.isLimited && address.includes('before=')
            ? Promise.resolve(Response.json(problem, {status: 429}))
            : plain(address, ...rest)"""
    )
    open_chat(first, room_id)
    assert first.run(SHOWN) == [f"{number + 1}" for number in range(10, 60)]
    first.run("window.isLimited = false; document.getElementById('messages').scrollTop = 1")
    first.wait_until(f"return (() => {{ {SHOWN} }})().length === 60")


async def test_older_messages_that_cannot_be_read_are_not_asked_for_without_end(town: Town, first: Browser) -> None:
    one, _other, room_id = await town.pair()
    for number in range(60):
        await one.send(room_id, f"{number + 1}")
    first.devtools("Emulation.setDeviceMetricsOverride", **TALL)
    sign_in(first, one)
    first.run(
        """window.asked = [];
        window.isBroken = true;
        const plain = window.fetch;
        window.fetch = (address, ...rest) => {
            if (!window.isBroken || !address.includes('before=')) return plain(address, ...rest);
            window.asked.push(Date.now());
            return Promise.reject(new Error('no network'));
        }"""
    )
    open_chat(first, room_id)
    first.wait_until("return window.asked.length >= 2")
    assert first.run("return window.asked[1] - window.asked[0]") > 1_000
    first.run("window.isBroken = false")
    first.wait_until(f"return (() => {{ {SHOWN} }})().length === 60")
