"""Actions of users on the page of the browser client, and scripts that inspect it."""

from tests.support.browser import ENTER, Browser
from tests.support.people import PASSWORD, Person, unique

PHONE = {"width": 390, "height": 780, "deviceScaleFactor": 1, "mobile": True}
SIGNED_IN = "return !document.getElementById('chats').hidden"
CONNECTED = "return document.getElementById('connection').dataset.state === 'online'"
SHOWN = "return [...document.querySelectorAll('#messages .content')].map(e => e.textContent)"
# Every message of one's own bears this tick, and there are so many of them.
ALL_TICKED = """const ticks = [...document.querySelectorAll('#messages .tick')];
return ticks.length === arguments[1] && ticks.every(tick => tick.classList.contains(arguments[0]))"""
PICTURE_SHOWN = """const picture = document.querySelector('#messages .picture img');
return picture && picture.complete && picture.naturalWidth"""


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
