"""Real browsers for the tests: Debian's chromium, driven by chromedriver over plain WebDriver HTTP."""

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

START_DEADLINE = 60.0
MOST_STARTS = 5
DEADLINE = 60.0  # of one wait; a slow machine is no failure
PAUSE = 0.05
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key that the WebDriver standard gives to an element's id
ENTER = "\ue007"
FLAGS = (
    "--headless",
    "--no-sandbox",  # as root chromium does not start otherwise
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
READY_LINE = re.compile(r"started successfully on port (\d+)")


def find_programs() -> tuple[str, str] | None:
    """The paths of chromium and chromedriver; None where one is missing."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None


class Browsers:
    """One chromedriver. Every browser that it opens is closed with it."""

    def __init__(self, chromium: str, driver: str) -> None:
        self._chromium = chromium
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._opened: list[Browser] = []
        port = next((port for port in (self._start(driver) for _ in range(MOST_STARTS)) if port is not None), None)
        assert port is not None, f"chromedriver did not start {MOST_STARTS} times"
        self.url = f"http://127.0.0.1:{port}"

    def _start(self, driver: str) -> str | None:
        """The port of chromedriver; None if it ended, as it does where the port that it chose is taken over IPv6."""
        log = Path(self._folder.name) / "chromedriver.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen([driver, "--port=0"], stdout=output, stderr=subprocess.STDOUT)
        wait_for(
            lambda: READY_LINE.search(log.read_text()) or self._process.poll() is not None,
            f"chromedriver started: {log.read_text()}",
        )
        found = READY_LINE.search(log.read_text())
        return None if found is None else found.group(1)

    def open(self, *, width: int = 1100, height: int = 760) -> "Browser":
        """A browser of its own: nothing is shared with the others."""
        profile = Path(self._folder.name) / f"profile-{len(self._opened)}"
        options = {
            "binary": self._chromium,
            "args": [*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={profile}"],
        }
        wanted = {
            "capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        }
        session = call("POST", f"{self.url}/session", wanted)
        self._opened.append(Browser(f"{self.url}/session/{session['sessionId']}"))
        return self._opened[-1]

    def close(self) -> None:
        for browser in self._opened:
            browser.close()
        self._process.terminate()
        self._process.wait(START_DEADLINE)
        self._folder.cleanup()


class Browser:
    """One browser window. Elements are named by CSS selectors; actions wait until theirs is there."""

    def __init__(self, session_url: str) -> None:
        self._url = session_url

    def go(self, address: str) -> None:
        self._post("url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a function body returns inside the page."""
        return self._post("execute/sync", {"script": script, "args": list(arguments)})

    def devtools(self, command: str, **parameters: Any) -> Any:
        """A command of Chrome's own protocol, e.g. `Network.emulateNetworkConditions`."""
        return self._post("goog/cdp/execute", {"cmd": command, "params": parameters})

    def wait_until(self, script: str, *arguments: Any) -> Any:
        """Wait until the script returns something true, and return that."""
        return wait_for(lambda: self.run(script, *arguments), f"{script} {arguments}")

    def wait_text(self, selector: str, text: str) -> None:
        """Wait until an element that the selector matches shows the text."""
        found = "return [...document.querySelectorAll(arguments[0])].some(e => e.textContent.includes(arguments[1]))"
        self.wait_until(found, selector, text)

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
        )
        return found

    def click(self, selector: str) -> None:
        self._act(selector, "click", {})

    def type(self, selector: str, text: str) -> None:
        self._act(selector, "value", {"text": text})

    def begin_anew(self) -> None:
        """Close every tab but a new one, which shares no session storage with them."""
        old = self._get("window/handles")
        new = self._post("window/new", {"type": "tab"})["handle"]
        for tab in old:
            self.switch_to(tab)
            call("DELETE", f"{self._url}/window")
        self.switch_to(new)

    def tabs(self, count: int) -> list[str]:
        """Wait until there are so many tabs; their names for `switch_to`."""
        wait_for(lambda: len(self._get("window/handles")) == count, f"there are {count} tabs")
        names: list[str] = self._get("window/handles")
        return names

    def switch_to(self, tab: str) -> None:
        self._post("window", {"handle": tab})

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._get("screenshot")))

    def console_errors(self) -> list[str]:
        """What the page complained about since the last call, refused addresses of the network aside."""
        entries = self._post("se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE" and entry["source"] != "network"]

    def close(self) -> None:
        call("DELETE", self._url)

    def _act(self, selector: str, action: str, body: dict[str, Any]) -> None:
        def attempt() -> bool:
            try:
                element = self._post("element", {"using": "css selector", "value": selector})[ELEMENT]
                self._post(f"element/{element}/{action}", body)
            except WebDriverError as error:
                if error.kind in ("no such element", "stale element reference", "element not interactable"):
                    return False
                if error.kind == "element click intercepted":
                    return False
                raise
            return True

        wait_for(attempt, f"{action} {selector}")

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return call("POST", f"{self._url}/{path}", body)

    def _get(self, path: str) -> Any:
        return call("GET", f"{self._url}/{path}")


class WebDriverError(Exception):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


def call(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=START_DEADLINE) as response:  # noqa: S310
            return json.load(response)["value"]
    except urllib.error.HTTPError as error:
        value = json.load(error)["value"]
        raise WebDriverError(value["error"], value["message"]) from None


def wait_for(condition: Callable[[], Any], description: str) -> Any:
    """Look again and again until the condition is true."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < end, f"it never happened: {description}"
        time.sleep(PAUSE)
    return value
