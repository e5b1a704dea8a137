"""The examples for proxies in docs/operations.md, with the real programs, on another port than 443."""

import asyncio
import contextlib
import json
import os
import shutil
import ssl
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
from tornado.ioloop import IOLoop

from tests.conftest import NO_LIMITS, serve
from tests.support.device import DEADLINE, TRANSPORTS
from tests.support.people import PASSWORD, Person, Town, unique
from tests.support.proxies import PROXIES, Certificate, make_certificate, run_proxy
from tests.support.rest import API
from tests.support.server_process import ServerProcess
from tests.support.shapes import check_problem
from tests.support.uploads import fetch, upload
from tests.support.waiting import eventually

POLLING = "/socket.io/?EIO=4&transport=polling"
LARGE = 99_000_000
REGISTRATIONS = 3
SETTINGS = {
    **NO_LIMITS,
    "limits.enabled": True,
    "limits.registrations_per_hour": REGISTRATIONS,
    "server.trusted_proxies": ["127.0.0.1"],
    "cors.origins": ["https://app.example.com"],
}


class Site(NamedTuple):
    """Madang behind one of the proxies, and two people with a room who live there."""

    name: str
    url: str
    certificate: Certificate
    alice: Person
    bob: Person
    room_id: str


def missing(what: str) -> None:
    """Skip, so that nobody overlooks it."""
    reason = f"{what} is not installed"
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"AN EXAMPLE OF docs/operations.md WAS NOT TRIED: {reason}", stacklevel=1)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    yield from serve(tmp_path_factory.mktemp("behind_proxies"), SETTINGS)


@pytest.fixture(scope="module")
def people(backend: ServerProcess) -> tuple[Person, Person, str]:
    async def settle() -> tuple[Person, Person, str]:
        town = Town(backend.url)
        found = await town.pair()
        await town.close()
        return found

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, settle()).result()


@pytest.fixture(scope="module", params=PROXIES)
def site(
    request: pytest.FixtureRequest,
    backend: ServerProcess,
    people: tuple[Person, Person, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    proxy = PROXIES[request.param]
    if proxy.program is None:
        missing(request.param)
    if shutil.which("openssl") is None:
        missing("openssl")
    folder = tmp_path_factory.mktemp(request.param)
    certificate = make_certificate(folder)
    with run_proxy(proxy, folder, backend.url, certificate) as url:
        yield Site(request.param, url, certificate, *people)


@pytest.fixture
def town(site: Site, io_loop: IOLoop) -> Iterator[Town]:
    """People and devices who come by way of the proxy."""
    before = open_descriptors()
    town = Town(site.url, site.certificate.public)
    yield town

    async def are_closed() -> bool:
        return open_descriptors() <= before

    async def end() -> None:
        await town.close()
        # Connections by TLS end a few turns of the loop after they have been closed.
        await eventually(are_closed, "all connections of the test are closed")

    io_loop.run_sync(end)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_page_of_the_site_connects_by(site: Site, town: Town, transport: str) -> None:
    alice, bob = town.resident(site.alice), town.resident(site.bob)
    device, ear = town.device(), await bob.connect()
    await device.connect(alice.access_token, transports=TRANSPORTS[transport], headers={"Origin": site.url})
    assert device.sio.transport() == ("polling" if transport == "polling" else "websocket")
    content = unique(transport)
    answer = await device.call("message:send", {"roomId": site.room_id, "content": content})
    assert answer["ok"]
    await ear.next("message:new", lambda message: message["content"] == content)
    await device.next("message:new", lambda message: message["content"] == content)


async def test_foreign_pages_are_refused(site: Site, town: Town) -> None:
    own, foreign = {"Origin": site.url}, {"Origin": "https://127.0.0.1"}
    assert (await town.rest.call("GET", POLLING, headers=own)).status == 200
    assert (await town.rest.call("GET", POLLING, headers={"Origin": "https://app.example.com"})).status == 200
    check_problem(await town.rest.call("GET", POLLING, headers=foreign), "FORBIDDEN")
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    path = POLLING.replace("polling", "websocket")
    headers = {**foreign, **upgrade, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    check_problem(await town.rest.call("GET", path, headers=headers), "FORBIDDEN")


async def test_a_large_file_and_its_ranges(site: Site, town: Town) -> None:
    alice = town.resident(site.alice)
    block = bytes(range(251)) * 4000
    data = (block * (LARGE // len(block) + 1))[:LARGE]
    file = await upload(alice, data, "large.bin")
    assert file["size"] == LARGE
    for asked, first, end in (
        ("bytes=0-99", 0, 100),
        ("bytes=50000000-50099999", 50_000_000, 50_100_000),
        ("bytes=-7", LARGE - 7, LARGE),
    ):
        answer = await fetch(alice, file["fileUrl"], Range=asked)
        assert (answer.status, answer.headers["Content-Range"]) == (206, f"bytes {first}-{end - 1}/{LARGE}")
        assert answer.raw == data[first:end]
    head = await fetch(alice, file["fileUrl"], "HEAD")
    assert (head.headers["Content-Length"], head.headers["Accept-Ranges"]) == (str(LARGE), "bytes")


async def register(site: Site, source: str, made_up: str) -> int:
    """The status of a registration from this address, which claims to be another."""
    trusted = ssl.create_default_context(cafile=site.certificate.public)
    port = int(site.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted, local_addr=(source, 0))
    person = {"email": f"{unique('p')}@example.com", "password": PASSWORD, "firstName": "Jane", "lastName": "Doe"}
    body = json.dumps(person).encode()
    head = f"POST {API}/auth/register HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    head += f"X-Forwarded-For: {made_up}\r\nX-Real-IP: {made_up}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    async with asyncio.timeout(DEADLINE):
        status = int((await reader.readline()).split()[1])
        await reader.read()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return status


async def test_limits_go_by_the_address_of_the_client(site: Site) -> None:
    network = 2 + list(PROXIES).index(site.name)
    one, other = f"127.0.{network}.1", f"127.0.{network}.2"
    statuses = [await register(site, one, f"198.51.100.{number}") for number in range(REGISTRATIONS + 1)]
    assert statuses == [201] * REGISTRATIONS + [429]
    assert await register(site, other, one) == 201


async def test_plain_answers_come_through(site: Site, town: Town) -> None:
    page = await town.rest.call("GET", "/")
    assert page.status == 200 and page.headers["Content-Type"].startswith("text/html")
    answer = await town.rest.call("GET", f"{API}/users/me")
    check_problem(answer, "UNAUTHORIZED")
    assert (await town.resident(site.alice).get(f"{API}/users/me")).status == 200
