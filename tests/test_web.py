"""The browser client as it is served: its files, their headers, and that no page of it can run foreign script."""

import re
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.people import Town
from tests.support.shapes import check_problem

FOLDER = Path(__file__).resolve().parents[1] / "web"
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file())
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
OWN_SCRIPTS = [name for name in FILES if name.startswith("js/")]
LONGEST = 255


@pytest.mark.parametrize("name", FILES)
async def test_every_file_is_served_as_it_is(town: Town, name: str) -> None:
    answer = await town.rest.call("GET", f"/web/{name}")
    assert (answer.status, answer.raw) == (200, (FOLDER / name).read_bytes())
    assert answer.headers["Content-Type"] == TYPES[Path(name).suffix]


async def test_the_page_and_its_headers(town: Town) -> None:
    answer = await town.rest.call("GET", "/")
    assert answer.raw == (FOLDER / "index.html").read_bytes()
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    policy = dict(rule.split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
    assert "script-src" not in policy and "unsafe" not in answer.headers["Content-Security-Policy"]


async def test_what_the_page_names_is_there(town: Town) -> None:
    page = (FOLDER / "index.html").read_text()
    named = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert named
    for address in named:
        assert address.startswith("/web/"), "everything comes from this server"
        assert (await town.rest.call("GET", address)).status == 200, address


async def test_a_file_is_sent_again_only_when_it_changed(town: Town) -> None:
    first = await town.rest.call("GET", "/web/js/main.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await town.rest.call("GET", "/web/js/main.js", headers={"If-None-Match": first.headers["Etag"]})
    assert (again.status, again.raw) == (304, b"")
    changed = await town.rest.call("GET", "/web/js/main.js", headers={"If-None-Match": '"other"'})
    assert changed.status == 200


async def test_head_says_the_same_without_the_file(town: Town) -> None:
    whole, head = [await town.rest.call(method, "/") for method in ("GET", "HEAD")]
    assert (head.status, head.raw) == (200, b"")
    assert head.headers["Content-Length"] == str(len(whole.raw))


async def test_another_method_is_refused(town: Town) -> None:
    answer = await town.rest.call("POST", "/", {})
    check_problem(answer, "METHOD_NOT_ALLOWED")
    assert {name.strip() for name in answer.headers["Allow"].split(",")} == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "path",
    [
        "/web",
        "/web/",
        "/web/js",
        "/web/js/",
        "/web/js/nothing.js",
        "/web/index.html/x.js",
        "/web/../config.yaml",
        "/web/../handlers/base.py",
        "/web/%2e%2e/config.yaml",
        "/web/..%2fconfig.yaml",
        "/web/js/..%2f..%2fLICENSE.txt",
        "/web//etc/hosts.txt",
        "/web/%2fetc%2fhosts.txt",
        "/web/.git/config.txt",
        "/web/js/main.js%00.txt",
        "/web/" + "x" * LONGEST + ".js",
    ],
    ids=lambda path: path[:30],
)
async def test_nothing_else_is_served(town: Town, path: str) -> None:
    check_problem(await town.rest.call("GET", path), "NOT_FOUND")


async def test_it_can_be_switched_off(start_server: StartServer, town_at) -> None:
    town = town_at(start_server({"web.enabled": False}))
    for path in ("/", "/web/js/main.js"):
        check_problem(await town.rest.call("GET", path), "NOT_FOUND")


def test_the_page_has_no_script_or_style_of_its_own() -> None:
    page = (FOLDER / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"<style|\bstyle=|\son\w+=|javascript:", page) == []


@pytest.mark.parametrize("name", OWN_SCRIPTS)
def test_no_script_makes_elements_from_text(name: str) -> None:
    source = (FOLDER / name).read_text()
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|setHTML"
    assert re.findall(forbidden, source) == []
