"""The page of the contract in a real browser: it shows everything, and tries it on this server."""

from handlers.routes import ROUTES
from handlers.socket.events import EVENTS
from server.events import SERVER_EVENTS
from tests.support.browser import Browser
from tests.support.people import PASSWORD, Town

DESCRIBED = sum(len(route.endpoints) for route in ROUTES if route.is_described)
ENTRIES = "return document.querySelectorAll('.entry').length"
OPEN = "const entry = document.getElementById(arguments[0]); entry.open = true; entry.scrollIntoView();"


def log_in(browser: Browser, town: Town, email: str, password: str) -> None:
    browser.go(f"{town.url}/docs")
    browser.wait_until(f"{ENTRIES} === {DESCRIBED + len(EVENTS) + len(SERVER_EVENTS)}")
    browser.type("#who [name=email]", email)
    browser.type("#who [name=password]", password)
    browser.click("#who [type=submit]")
    browser.wait_text("#who-state", "Trying as")


async def test_it_shows_all_operations_and_tries_one_of_each_kind(town: Town, first: Browser) -> None:
    one, other, room_id = await town.pair()
    log_in(first, town, one.user["email"], PASSWORD)

    first.run(OPEN, "usersGetOwnProfile")
    first.click("#usersGetOwnProfile .try [type=submit]")
    first.wait_text("#usersGetOwnProfile .answer", "200 OK")
    first.wait_text("#usersGetOwnProfile .answer", one.user["email"])

    first.run(OPEN, "messagesSend")
    first.type("#messagesSend [name='path:roomId']", room_id)
    first.run("document.querySelector('#messagesSend textarea').value = JSON.stringify({content: '안녕 <b>'})")
    first.click("#messagesSend .try [type=submit]")
    first.wait_text("#messagesSend .answer", "201 Created")
    first.wait_text("#messagesSend .answer", "안녕 <b>")
    assert (await other.chat(room_id))["lastMessage"] == "안녕 <b>"

    first.run(OPEN, "receivePresenceGet")
    first.run(
        "document.querySelector('#receivePresenceGet textarea').value = JSON.stringify({userIds: [arguments[0]]})",
        one.id,
    )
    first.click("#receivePresenceGet .try [type=submit]")
    first.wait_text("#receivePresenceGet .answer", '"isOnline": true')
    await other.send(room_id, "heard")
    first.wait_text(".heard", "heard")
    first.run(OPEN, "messagesSend")
    assert first.console_errors() == []


def test_a_wrong_login_says_so(town: Town, first: Browser) -> None:
    first.go(f"{town.url}/docs#authLogin")
    first.type("#who [name=email]", "nobody@example.com")
    first.type("#who [name=password]", "wrong password")
    first.click("#who [type=submit]")
    first.wait_until("return document.getElementById('who-error').textContent !== ''")
