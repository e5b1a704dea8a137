"""Allowed origins: one rule for REST, polling and WebSocket, also behind proxies that do TLS."""

from typing import Any

import pytest
from tornado.httputil import HTTPHeaders

from handlers.origins import is_foreign
from server.config.settings import Cors, Server, Settings
from tests.conftest import StartServer, serve
from tests.support.people import Town
from tests.support.rest import API
from tests.support.server_process import ServerProcess
from tests.support.shapes import check_problem

POLLING = "/socket.io/?EIO=4&transport=polling"
LISTED = "https://app.example.com"
EVIL = "https://evil.example.com"


def is_refused(peer: str = "203.0.113.7", trusted: tuple[str, ...] = ("127.0.0.1",), **headers: str) -> bool:
    settings = Settings(cors=Cors(origins=[LISTED]), server=Server(trusted_proxies=list(trusted)))
    lines = HTTPHeaders({name.replace("_", "-"): value for name, value in headers.items()})
    return is_foreign(peer, lines, settings)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://chat.example.com", "chat.example.com"),
        ("http://chat.example.com", "chat.example.com"),
        ("https://chat.example.com", "chat.example.com:443"),
        ("http://chat.example.com:80", "chat.example.com"),
        ("https://chat.example.com:8443", "chat.example.com:8443"),
        ("https://CHAT.example.com/", "chat.example.COM"),
        ("wss://chat.example.com", "chat.example.com"),
        ("http://[::1]:3000", "[::1]:3000"),
        ("http://my_host:3000", "my_host:3000"),
        (LISTED, "chat.example.com"),
        ("https://APP.example.com:443", "chat.example.com"),
    ],
)
def test_own_and_listed_pages_may_call(origin: str, host: str) -> None:
    assert not is_refused(Origin=origin, Host=host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (EVIL, "chat.example.com"),
        ("https://chat.example.com", "chat.example.com:8443"),
        ("https://chat.example.com:8443", "chat.example.com"),
        ("https://chat.example.com", "chat.example.com:80"),
        ("https://chat.example.com.evil.example.com", "chat.example.com"),
        ("https://me@chat.example.com", "chat.example.com"),
        ("https://chat.example.com/path", "chat.example.com"),
        ("http://app.example.com", "chat.example.com"),
        ("https://app.example.com:8443", "chat.example.com"),
        ("null", "chat.example.com"),
        ("", "chat.example.com"),
        ("", ""),
        ("http://[", "["),
        ("http://[::1", "[::1"),
        ("file://", ""),
        ("https://chat.example.com,https://chat.example.com", "chat.example.com"),
        ("https://chat.example.com:99999999", "chat.example.com"),
        ("https://한국.example.com", "한국.example.com"),
    ],
)
def test_foreign_pages_may_not(origin: str, host: str) -> None:
    assert is_refused(Origin=origin, Host=host)


def test_what_is_no_page_may_call() -> None:
    assert not is_refused(Host="chat.example.com")


@pytest.mark.parametrize(
    ("forwarded", "is_own"),
    [
        ("https", True),
        ("HTTPS", True),
        ("wss", True),
        ("https, http", True),
        ("", True),
        ("gopher", True),
        ("http", False),
        ("ws", False),
        ("http,https", False),
    ],
)
def test_the_scheme_counts_where_a_trusted_proxy_tells_it(forwarded: str, is_own: bool) -> None:
    page = {"Origin": "https://chat.example.com", "Host": "chat.example.com", "X_Forwarded_Proto": forwarded}
    assert is_refused(peer="127.0.0.1", **page) is not is_own
    assert not is_refused(peer="203.0.113.7", **page), "others are not believed"


def test_a_browser_knows_its_own_address() -> None:
    """The proxy puts another name into `Host`."""
    page = {"Origin": "https://chat.example.com", "Host": "madang:3000"}
    assert is_refused(**page)
    assert not is_refused(**page, Sec_Fetch_Site="same-origin")
    assert is_refused(**page, Sec_Fetch_Site="same-site")


async def answers(town: Town, headers: dict[str, str]) -> tuple[bool, int, int]:
    """Whether the page may read REST, and what polling and the WebSocket answer."""
    rest = await town.rest.call("GET", f"{API}/users/me", headers=headers)
    check_problem(rest, "UNAUTHORIZED")
    is_readable = rest.headers.get("Access-Control-Allow-Origin") == headers["Origin"]
    polled = await town.rest.call("GET", POLLING, headers=headers)
    if polled.status == 403:
        check_problem(polled, "FORBIDDEN")
        assert "Access-Control-Allow-Origin" not in polled.headers
    else:
        assert polled.headers["Access-Control-Allow-Origin"] == headers["Origin"]
        assert polled.headers["Access-Control-Allow-Credentials"] == "true"
    return is_readable, polled.status, (await town.raw(headers=headers)).status


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    settings = {"cors.origins": [LISTED], "server.trusted_proxies": ["127.0.0.1"]}
    yield from serve(tmp_path_factory.mktemp("open_server"), settings)


async def test_a_server_that_lists_origins_keeps_its_own_page(open_server: ServerProcess, town_at: Any) -> None:
    town: Town = town_at(open_server)
    own = {"Origin": open_server.url}
    assert await answers(town, own) == (True, 200, 101)
    assert await answers(town, {"Origin": LISTED}) == (True, 200, 101)
    assert await answers(town, {"Origin": EVIL}) == (False, 403, 403)
    assert await answers(town, {"Origin": "http://["}) == (False, 403, 403)
    for headers in own, {"Origin": LISTED}, {"Origin": EVIL}, {}:
        assert (await town.rest.call("GET", POLLING, headers=headers)).headers["Vary"] == "Origin"


async def test_behind_a_proxy_that_does_tls(open_server: ServerProcess, town_at: Any) -> None:
    town: Town = town_at(open_server)
    page = {"Origin": "https://chat.example.com:8443", "Host": "chat.example.com:8443"}
    assert await answers(town, page) == (True, 200, 101)
    assert await answers(town, {**page, "X-Forwarded-Proto": "https"}) == (True, 200, 101)
    assert await answers(town, {**page, "X-Forwarded-Proto": "http"}) == (False, 403, 403)


async def test_the_shared_server_without_a_list(town: Town) -> None:
    assert await answers(town, {"Origin": town.url}) == (True, 200, 101)
    assert await answers(town, {"Origin": LISTED}) == (False, 403, 403)


async def test_a_preflight_is_answered_by_the_same_rule(open_server: ServerProcess, town_at: Any) -> None:
    town: Town = town_at(open_server)
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, x-mine"}
    ours = "Authorization, Content-Type, Idempotency-Key, X-Request-Id"
    for path, allowed in ((POLLING, "authorization, x-mine"), (f"{API}/auth/login", ours)):
        answer = await town.rest.call("OPTIONS", path, headers={**asked, "Origin": LISTED})
        assert answer.status in (200, 204), path
        assert answer.headers["Access-Control-Allow-Origin"] == LISTED
        assert answer.headers["Access-Control-Allow-Headers"] == allowed
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        answer = await town.rest.call("OPTIONS", path, headers={**asked, "Origin": EVIL})
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_connected_page_goes_on_by_polling_and_upgrades(open_server: ServerProcess, town_at: Any) -> None:
    town: Town = town_at(open_server)
    person = await town.person()
    for transports in (("polling",), ("websocket",), ("polling", "websocket")):
        device = town.device()
        await device.connect(person.access_token, transports=transports, headers={"Origin": open_server.url})
        assert (await device.call("presence:get", {"userIds": [person.id]}))["ok"]


async def test_no_word_about_a_refused_page_in_the_log(start_server: StartServer, town_at: Any) -> None:
    process = start_server()
    town: Town = town_at(process)
    for origin in ("http://[", "https://secret-name.example.com", "\u00e9"):
        assert await answers(town, {"Origin": origin}) == (False, 403, 403)
    assert "secret-name" not in process.log() and "Traceback" not in process.log() and "EIO=" not in process.log()


async def test_further_headers_may_be_allowed(start_server: StartServer, town_at: Any) -> None:
    town = town_at(start_server({"cors.origins": [LISTED], "cors.headers": ["X-Trace-Id", "traceparent"]}))
    answer = await town.rest.call("OPTIONS", f"{API}/users/me", headers={"Origin": LISTED})
    allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"Authorization", "Content-Type", "X-Trace-Id", "traceparent"} <= set(allowed)
    foreign = await town.rest.call("OPTIONS", f"{API}/users/me", headers={"Origin": "https://other.example"})
    assert "Access-Control-Allow-Headers" not in foreign.headers
