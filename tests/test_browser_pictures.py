"""The browser client and images of other hosts: they are loaded only after a click or by a setting."""

import io
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from PIL import Image

from tests.conftest import StartServer
from tests.support.browser import Browser, wait_for
from tests.support.chat_page import PICTURE_SHOWN, open_chat, sign_in
from tests.support.people import Person, Town
from tests.support.rest import API

BUTTON = "#messages button.remote"


class OtherHost:
    """Serves one picture under every path, and notes who asks for it."""

    def __init__(self) -> None:
        file = io.BytesIO()
        Image.new("RGB", (120, 80), "teal").save(file, "PNG")
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Type", "image/png")
                self.end_headers()
                self.wfile.write(file.getvalue())

            def log_message(self, *_arguments: object) -> None:
                """Nothing is to be said."""

        self.asked = asked
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def address(self, path: str) -> str:
        return f"http://{self.name}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def other_host() -> Iterator[OtherHost]:
    host = OtherHost()
    yield host
    host.close()


async def send_pictures(other_host: OtherHost, town: Town) -> tuple[Person, str]:
    """Somebody with a face on another host has sent two pictures of it: who is to see them, and the room."""
    one, other, room_id = await town.pair()
    face = {"profileImage": other_host.address("/face.png")}
    assert (await other.call("PATCH", f"{API}/users/me", face)).status == 200
    for path in ("/one.png", "/two.png"):
        await other.send(room_id, "look", type="IMAGE", attachmentUrl=other_host.address(path))
    return one, room_id


def look_at(browser: Browser, person: Person, room_id: str) -> None:
    # The page's policy knows other hosts by https only; here there is no certificate for one.
    browser.devtools("Page.setBypassCSP", enabled=True)
    sign_in(browser, person)
    open_chat(browser, room_id)


async def test_a_picture_of_another_host_is_loaded_by_a_click(
    town: Town, first: Browser, other_host: OtherHost
) -> None:
    one, room_id = await send_pictures(other_host, town)
    look_at(first, one, room_id)
    first.wait_until("return document.querySelectorAll(arguments[0]).length === 2", BUTTON)
    assert first.texts(BUTTON) == [f"Load the picture from {other_host.name}"] * 2
    assert first.run("return document.querySelectorAll('.avatar img').length") == 0
    assert other_host.asked == []
    first.click(BUTTON)
    assert first.wait_until(PICTURE_SHOWN) == 120
    assert other_host.asked == ["/one.png"]
    assert first.run("return document.activeElement.className") == "picture", "the focus stays where it was"
    assert first.run("return document.querySelectorAll(arguments[0]).length", BUTTON) == 1
    # The line is made anew, and what was asked for once stays.
    first.run("history.back()")
    first.wait_until("return document.getElementById('room').hidden")
    open_chat(first, room_id)
    assert first.wait_until(PICTURE_SHOWN) == 120
    assert set(other_host.asked) == {"/one.png"}


async def test_they_are_loaded_at_once_where_the_setting_says_so(
    start_server: StartServer, town_at, first: Browser, other_host: OtherHost
) -> None:
    town = town_at(start_server({"web.load_remote_images": True}))
    one, room_id = await send_pictures(other_host, town)
    look_at(first, one, room_id)
    wait_for(lambda: set(other_host.asked) == {"/face.png", "/one.png", "/two.png"}, "all are loaded")
    assert first.run("return document.querySelector(arguments[0])", BUTTON) is None
