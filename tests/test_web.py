"""The browser client as served: its files, their headers, and a policy against foreign scripts."""

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
}
IMPORT = re.compile(r'^import .* from "(.+?)";$', re.MULTILINE)
OWN_SCRIPTS = [name for name in FILES if name.startswith("js/")]
LONGEST = 255
SETTINGS = "/web/settings.json"
# WCAG 2.1: 4.5 for words, 3 for what is no text but has a meaning. Each on everything that it may lie on.
WORDS, SIGNS = 4.5, 3.0
CONTRASTS = [
    *(("text", ground, WORDS) for ground in ("ground", "surface", "raised", "mine")),
    *(("quiet", ground, WORDS) for ground in ("ground", "surface", "raised", "mine")),
    *(("error", ground, WORDS) for ground in ("ground", "surface", "raised", "mine")),
    *(("accent", ground, WORDS) for ground in ("ground", "surface", "raised", "mine")),
    ("on-accent", "accent", WORDS),
    *(("edge", ground, SIGNS) for ground in ("ground", "surface")),
    *(("online", ground, SIGNS) for ground in ("surface", "raised")),
    ("read", "mine", SIGNS),
]


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
        "/web/js/..%2f..%2ftests%2fside_by_side%2frun.js",
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


@pytest.mark.parametrize("may_load", [False, True])
async def test_the_page_is_told_its_settings(start_server: StartServer, town_at, may_load: bool) -> None:
    town = town_at(start_server({"web.load_remote_images": True} if may_load else {}))
    answer = await town.rest.call("GET", SETTINGS)
    assert (answer.status, answer.body) == (200, {"loadRemoteImages": may_load, "registration": "open"})
    assert answer.headers["Cache-Control"] == "no-store", "a change of the settings is seen at the next load"
    page = await town.rest.call("GET", "/")
    policy = dict(rule.split(" ", 1) for rule in page.headers["Content-Security-Policy"].split("; "))
    assert "https:" in policy["img-src"].split(), "what somebody clicked on can be loaded"


async def test_it_can_be_switched_off(start_server: StartServer, town_at) -> None:
    town = town_at(start_server({"web.enabled": False}))
    for path in ("/", "/web/js/main.js", SETTINGS):
        check_problem(await town.rest.call("GET", path), "NOT_FOUND")


def test_every_script_is_a_module_of_ours() -> None:
    page = (FOLDER / "index.html").read_text()
    assert re.findall(r"<script[^>]*>", page) == ['<script src="/web/js/main.js" type="module">']
    imported = [name for file in OWN_SCRIPTS for name in IMPORT.findall((FOLDER / file).read_text())]
    assert imported and all(name.startswith(".") for name in imported)
    assert {Path(name).parts[0] for name in FILES} == {"css", "docs.html", "icon.svg", "index.html", "js"}


def test_the_page_has_no_script_or_style_of_its_own() -> None:
    page = (FOLDER / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"<style|\bstyle=|\son\w+=|javascript:", page) == []


@pytest.mark.parametrize("name", OWN_SCRIPTS)
def test_no_script_makes_elements_from_text(name: str) -> None:
    source = (FOLDER / name).read_text()
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|setHTML"
    assert re.findall(forbidden, source) == []


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "ground", "least"), CONTRASTS)
def test_colours_stand_out_from_what_they_lie_on(theme: int, front: str, ground: str, least: float) -> None:
    themes = re.findall(r":root \{(.*?)\}", (FOLDER / "css/base.css").read_text(), re.DOTALL)
    colours = {
        name: code for block in themes[: theme + 1] for name, code in re.findall(r"--([\w-]+): (#\w{6});", block)
    }
    darker, lighter = sorted(luminance(colours[name]) for name in (front, ground))
    assert (lighter + 0.05) / (darker + 0.05) >= least


def luminance(colour: str) -> float:
    """As WCAG 2.1 defines it, of `#rrggbb`."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
