"""Fixtures: server processes, and users on them."""

import asyncio
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from tornado.ioloop import IOLoop

from tests.support.browser import Browser, Browsers, find_programs
from tests.support.contract import DIFFERENCES
from tests.support.named_stores import named_stores, remove_all
from tests.support.npm import SCRIPTS, VALIDATORS, install
from tests.support.people import Person, Town
from tests.support.server_process import ServerProcess
from tests.support.tokens import SECRET

# With one of these begun last, a process would run long after the others.
LONGEST = ("test_torture.py", "test_contract.py", "test_embedded.py", "test_schemathesis.py", "test_proxies.py")
TEST_TIMEOUT = 120.0  # of one async test; waits inside have deadlines of their own
# Tokens of people who are made once must outlive the run, also on a machine where it takes an hour.
NO_LIMITS = {"limits.enabled": False, "auth.secret": SECRET, "auth.access_ttl": "24h", "log.level": "INFO"}
QUICK = {
    **NO_LIMITS,
    "socket.ping_interval": "300ms",
    "socket.connect_timeout": "1s",
    "presence.grace": "200ms",
    "typing.timeout": "500ms",
    "sweep.interval": "500ms",
    "offline_queue.max_messages": 20,
}
# Small enough to be reached by tests; one of them for each place where the bytes may be kept.
UPLOADS = {**NO_LIMITS, "uploads.max_image": "300KB", "uploads.max_file": "600KB", "uploads.quota": "2MB"}
StartServer = Callable[..., ServerProcess]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """pytest-tornado runs only what is marked; every `async def` test means to be. The longest files begin first."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    for item in items:
        is_async = inspect.iscoroutinefunction(getattr(item, "obj", None))
        if is_async and item.get_closest_marker("gen_test") is None:
            item.add_marker(pytest.mark.gen_test(timeout=TEST_TIMEOUT))


def pytest_sessionfinish() -> None:
    remove_all()


@pytest.fixture(autouse=True)
def contract_is_kept() -> Iterator[None]:
    """Whatever a test is about: each answer, ack and event that its clients got is as the descriptions say."""
    DIFFERENCES.clear()
    yield
    assert DIFFERENCES == []


def serve(folder: Path, settings: Mapping[str, object]) -> Iterator[ServerProcess]:
    """For fixtures: a server that logs no exceptions, until its users are done."""
    process = ServerProcess(folder, {**named_stores(folder), **settings})
    try:
        process.start()
        yield process
        process.stop()
    finally:
        process.kill()
    _before, found, after = process.log().partition("Traceback")
    assert not found, f"the server logged exceptions ({process.log_file}), the first:\n{after[:3000]}"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The server that most tests share: default times, no rate limits."""
    yield from serve(tmp_path_factory.mktemp("server"), NO_LIMITS)


@pytest.fixture(scope="session")
def quick_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose grace times, pings and sweeps are short and whose offline queue is small (see `QUICK`)."""
    yield from serve(tmp_path_factory.mktemp("quick_server"), QUICK)


@pytest.fixture(scope="session", params=["disk", "gridfs"])
def upload_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with small limits for uploads (see `UPLOADS`), once for each store of them."""
    yield from serve(tmp_path_factory.mktemp("upload_server"), {**UPLOADS, "uploads.store": request.param})


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for scripts that import npm's Socket.IO client, with those of tests/node. Skips loudly without npm."""
    return install_or_skip(SCRIPTS, tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="session")
def validators_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts of tests/validators, which can be run. Skips loudly without npm."""
    return install_or_skip(VALIDATORS, tmp_path_factory.mktemp("validators"))


def install_or_skip(source: Path, folder: Path) -> Path:
    reason = install(source, folder)
    if reason is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"WHAT USES {source.name.upper()} FROM NPM WAS NOT RUN: {reason}", stacklevel=1)
        pytest.skip(reason)
    return folder


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[StartServer]:
    """`start_server({"limits.enabled": True})`: a server of the test's own. It may be killed and restarted."""
    started: list[ServerProcess] = []
    needs_embedded = request.node.get_closest_marker("embedded_stores") is not None

    def start(settings: Mapping[str, object] | None = None) -> ServerProcess:
        folder = tmp_path_factory.mktemp("own_server")
        stores = {} if needs_embedded else named_stores(folder)
        process = ServerProcess(folder, {**NO_LIMITS, **stores, **(settings or {})})
        started.append(process)
        process.start()
        return process

    try:
        yield start
        for process in started:
            process.stop()
    finally:
        for process in started:
            process.kill()


@pytest.fixture
def town_at(io_loop: IOLoop) -> Iterator[Callable[[ServerProcess], Town]]:
    """`town_at(server)`: people and devices on that server, closed when the test ends."""
    towns: list[Town] = []

    def open_town(process: ServerProcess) -> Town:
        towns.append(Town(process.url))
        return towns[-1]

    yield open_town
    for town in towns:
        io_loop.run_sync(town.close)


@pytest.fixture
def town(town_at: Callable[[ServerProcess], Town], server: ServerProcess) -> Town:
    """People and devices on the shared server."""
    return town_at(server)


@pytest.fixture
def quick_town(town_at: Callable[[ServerProcess], Town], quick_server: ServerProcess) -> Town:
    """People and devices on the quick server."""
    return town_at(quick_server)


@pytest.fixture
def upload_town(town_at: Callable[[ServerProcess], Town], upload_server: ServerProcess) -> Town:
    """People and devices on the server with small limits for uploads."""
    return town_at(upload_server)


class Residents(NamedTuple):
    """People of the shared server for tests that change nothing: a pair with a room and a message, and a stranger."""

    alice: Person
    bob: Person
    stranger: Person
    room_id: str
    message_id: str


@pytest.fixture(scope="session")
def residents(server: ServerProcess) -> Residents:
    """Made once. Use `town.resident(residents.alice)` for calls in a test's own loop."""

    async def settle() -> Residents:
        town = Town(server.url)
        alice, bob, room_id = await town.pair()
        stranger = await town.person("Stranger")
        message = await alice.send(room_id, "Hello!")
        await town.close()
        return Residents(alice, bob, stranger, room_id, message["messageId"])

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, settle()).result()


@pytest.fixture(scope="session")
def browsers() -> Iterator[Browsers]:
    """Real browsers. What needs them is skipped loudly where they are not installed."""
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


@pytest.fixture(scope="session")
def two_browsers(browsers: Browsers) -> tuple[Browser, Browser]:
    return browsers.open(), browsers.open()


@pytest.fixture
def first(two_browsers: tuple[Browser, Browser]) -> Browser:
    """A browser of one person, in a new tab that nobody is signed in to."""
    two_browsers[0].begin_anew()
    return two_browsers[0]


@pytest.fixture
def second(two_browsers: tuple[Browser, Browser]) -> Browser:
    """A browser of another person, which shares nothing with the first."""
    two_browsers[1].begin_anew()
    return two_browsers[1]
