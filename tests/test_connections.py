"""Connection limits: what is bounded, who is refused, and that connected users are not affected."""

import asyncio
import contextlib
import json
import os
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from handlers.connection_limits import bounds
from server.config.settings import Limits, Server, Settings
from tests.conftest import NO_LIMITS, StartServer, serve
from tests.support.device import DEADLINE, Device
from tests.support.people import Person, Town
from tests.support.poller import Poller
from tests.support.rest import API
from tests.support.server_process import ROOT, ServerProcess
from tests.support.shapes import check_problem
from tests.support.waiting import eventually

IDLE = 1100
FEW = 5
HEALTH = "GET /healthz HTTP/1.1\r\nHost: x\r\n"
WINDOW = 2.0


class Caller:
    """A TCP connection that says nothing until it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, forwarded_for: str = "", path: str = "/healthz") -> int:
        """The status of a request; 0 where the connection ends without an answer."""
        line = f"X-Forwarded-For: {forwarded_for}\r\n" if forwarded_for else ""
        with contextlib.suppress(ConnectionError):
            self.writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{line}\r\n".encode())
        return (await self.heard())[0]

    async def heard(self) -> tuple[int, str]:
        """Status and head of the next answer, which need not have been asked for."""
        try:
            async with asyncio.timeout(DEADLINE):
                head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().split("content-length:")[1].split()[0])
                await self.reader.readexactly(length)
        except (ConnectionError, asyncio.IncompleteReadError):
            return 0, ""
        return int(head.split()[1]), head


class Callers:
    """Many of them, at one server."""

    def __init__(self, url: str) -> None:
        self._address = url.removeprefix("http://").rsplit(":", 1)
        self.open: list[Caller] = []

    async def call(self, source: str = "127.0.0.1") -> Caller:
        host, port = self._address
        caller = Caller(*await asyncio.open_connection(host, int(port), local_addr=(source, 0)))
        self.open.append(caller)
        return caller

    async def hang_up(self, *callers: Caller) -> None:
        for caller in callers or self.open:
            caller.writer.close()
        for caller in callers or self.open:
            with contextlib.suppress(ConnectionError):
                await caller.writer.wait_closed()


@contextlib.asynccontextmanager
async def callers_of(process: ServerProcess) -> AsyncIterator[Callers]:
    callers = Callers(process.url)
    try:
        yield callers
    finally:
        await callers.hang_up()


@contextlib.contextmanager
def descriptors_for_us(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"this test needs {count} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def limited(folder: Path, ulimit: str, **settings: object) -> ServerProcess:
    """A server under this `ulimit`, not started yet."""
    command = ["bash", "-c", f'ulimit {ulimit} && exec "$@"', "bash", sys.executable, str(ROOT / "main.py")]
    return ServerProcess(folder, {**NO_LIMITS, **settings}, program=command)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Friends:
    """Two people who are connected, one of them by polling; `talk` fails if either is held up."""

    def __init__(self, device: Device, poller: Poller, room_id: str) -> None:
        self._device = device
        self._poller = poller
        self._room_id = room_id
        self._seq = 0

    @classmethod
    async def meet(cls, town: Town) -> "Friends":
        one, other, room_id = await town.pair()
        poller = Poller(town)
        await poller.begin(other)
        return cls(await one.connect(), poller, room_id)

    async def talk(self) -> None:
        self._seq += 1
        answer = await self._device.call("message:send", {"roomId": self._room_id, "content": f"{self._seq}"})
        assert answer["message"]["seq"] == self._seq
        async with asyncio.timeout(DEADLINE):
            while not await self._has_heard():
                pass

    async def _has_heard(self) -> bool:
        packets = await self._poller.poll()
        if "2" in packets:
            await self._poller.say("3")
        return any('"message:new"' in packet and f'"seq":{self._seq},' in packet for packet in packets)


def count_lines(process: ServerProcess, words: str) -> int:
    return sum(words in line for line in process.log().splitlines())


async def test_more_idle_connections_than_descriptors(tmp_path: Path, town_at: Any) -> None:
    process = limited(tmp_path, "-n 1024")
    with descriptors_for_us(2 * IDLE):
        try:
            process.start()
            town: Town = town_at(process)
            friends = await Friends.meet(town)
            async with callers_of(process) as callers:
                for number in range(IDLE):
                    await callers.call()
                    if number % 100 == 0:
                        await friends.talk()
                logged, begun, moment = len(process.log()), cpu_seconds(process.pid), time.monotonic()
                while time.monotonic() - moment < WINDOW:
                    await asyncio.sleep(WINDOW / 4)  # what is looked for is a rate: it needs its time
                    await friends.talk()
                busy = (cpu_seconds(process.pid) - begun) / (time.monotonic() - moment)
                assert busy < 0.8, "it spins"
                assert len(process.log()) - logged < 2000, "it floods its log"
                # Idle connections make room: others still come in.
                assert (await town.person()).id
                await friends.talk()
            process.stop()
        finally:
            process.kill()
    assert "Traceback" not in process.log()


async def test_the_soft_limit_is_raised_and_said(tmp_path: Path) -> None:
    process = limited(tmp_path, "-Sn 300")
    try:
        process.start()
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        assert soft == hard > 300
        assert f"file descriptor limit raised from=300 to={hard}" in process.log()
        process.stop()
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("asked", "per_address", "is_limited", "descriptors", "found"),
    [
        (0, 0, True, 1024, (768, 384)),
        (0, 0, True, 65536, (57216, 1000)),
        (0, 0, False, 1024, (768, None)),
        (0, 7, False, 1024, (768, 7)),
        (40, 0, True, 1024, (40, 20)),
        (100_000, 0, True, 400, (222, 111)),
        (0, 0, True, 20, (16, 8)),
    ],
)
def test_what_the_bounds_are(
    asked: int, per_address: int, is_limited: bool, descriptors: int, found: tuple[int, int | None]
) -> None:
    server = Server(max_connections=asked, max_connections_per_address=per_address)
    assert bounds(Settings(server=server, limits=Limits(enabled=is_limited)), descriptors) == found


async def test_no_descriptors_left(start_server: StartServer, town_at: Any) -> None:
    """The system refuses descriptors below the bound, as where other files take them."""
    process = start_server()
    town: Town = town_at(process)
    friends = await Friends.meet(town)
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    async with callers_of(process) as callers:
        # Busy with a request that has not ended, so that none of them makes room.
        for _ in range(FEW):
            caller = await callers.call()
            caller.writer.write(f"POST {API}/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode())
        reader = await callers.call()
        assert await reader.ask() == 200
        used = len(os.listdir(f"/proc/{process.pid}/fd"))
        # A page is a file, which takes one as well.
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (FEW, before[1]))
        assert await reader.ask(path="/") == 503
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used + FEW, before[1]))
        for _ in range(20):
            await callers.call()

        async def is_said() -> bool:
            return "accepting connections failed" in process.log()

        await eventually(is_said, "the log says so")
        begun, moment = cpu_seconds(process.pid), time.monotonic()
        while time.monotonic() - moment < WINDOW:
            await asyncio.sleep(WINDOW / 4)  # as above
            await friends.talk()
        assert (cpu_seconds(process.pid) - begun) / (time.monotonic() - moment) < 0.8, "it spins"
        assert "EMFILE" in process.log() and count_lines(process, "accepting connections failed") == 1
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
        assert await (await callers.call()).ask() == 200
        await friends.talk()
    assert "Traceback" not in process.log()


async def test_all_connections_are_in_use(start_server: StartServer, town_at: Any) -> None:
    process = start_server({"server.max_connections": 2 * FEW})
    town: Town = town_at(process)
    person = await town.person()
    async with callers_of(process) as callers:
        idle = [await callers.call() for _ in range(4 * FEW)]
        # The first ones that never asked anything made room for the later ones.
        assert [await caller.ask() for caller in (idle[0], idle[-1])] == [0, 200]
        more = [await callers.call() for _ in range(4 * FEW)]
        assert [await caller.ask() for caller in (more[0], idle[-1], more[-1])] == [0, 200, 200]
        await callers.hang_up()
        town.rest.close()
        raws = [await town.raw_chat(person.access_token) for _ in range(2 * FEW)]
        for _ in range(3 * FEW):
            status, head = await (await callers.call()).heard()
            assert status == 503 and "Retry-After:" in head and "application/problem+json" in head
        assert (await raws[0].acked("presence:get", {"userIds": []}))["ok"]
        await raws[1].close()

        async def is_let_in() -> bool:
            return await (await callers.call()).ask() == 200

        await eventually(is_let_in, "the place of a WebSocket that ended is free")
    assert count_lines(process, "limit=server.max_connections max=10") == 1


@pytest.fixture(scope="module")
def crowded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Few connections of one address; who does not log in is soon gone."""
    settings = {**NO_LIMITS, "server.max_connections_per_address": FEW, "socket.connect_timeout": "1s"}
    yield from serve(tmp_path_factory.mktemp("crowded_server"), settings)


async def test_one_address_has_a_bound_and_others_are_free(crowded_server: ServerProcess) -> None:
    process = crowded_server
    async with callers_of(process) as callers:
        first = [await callers.call() for _ in range(FEW)]
        assert [await caller.ask() for caller in first] == [200] * FEW
        for _ in range(FEW):
            status, head = await (await callers.call()).heard()
            assert status == 429 and "Retry-After:" in head
        assert await (await callers.call("127.0.0.2")).ask() == 200
        # What it says about itself does not matter: nobody trusts it.
        assert await (await callers.call()).ask("198.51.100.1") == 429
        assert [await caller.ask("198.51.100.1") for caller in first] == [200] * FEW
        await callers.hang_up(first[0])

        async def is_let_in() -> bool:
            return await (await callers.call()).ask() == 200

        await eventually(is_let_in, "a place is free again")
    assert count_lines(process, "limit=server.max_connections_per_address max=5") == 1
    assert "last_address=127.0.0.1" in process.log()


async def open_sockets(town: Town, person: Person, address: str, count: int) -> list[Any]:
    return [await town.raw_chat(person.access_token, headers={"X-Forwarded-For": address}) for _ in range(count)]


async def test_behind_a_trusted_proxy_clients_count_and_not_the_proxy(start_server: StartServer, town_at: Any) -> None:
    process = start_server({"server.max_connections_per_address": FEW, "server.trusted_proxies": ["127.0.0.0/8"]})
    town: Town = town_at(process)
    person = await town.person()
    mine, other = {"X-Forwarded-For": "198.51.100.1"}, {"X-Forwarded-For": "198.51.100.2"}
    async with callers_of(process) as callers:
        # A proxy keeps connections for requests of anybody: those that rest are nobody's.
        kept = [await callers.call() for _ in range(4 * FEW)]
        assert [await caller.ask("198.51.100.1") for caller in kept] == [200] * len(kept)
        sockets = await open_sockets(town, person, "198.51.100.1", FEW)
        assert await kept[0].ask("198.51.100.1") == 429
        assert (await town.raw(headers=mine)).status == 429
        check_problem(await town.rest.call("GET", f"{API}/users/me", headers=mine), "RATE_LIMITED")
        check_problem(await town.rest.call("GET", "/socket.io/?EIO=4&transport=polling", headers=mine), "RATE_LIMITED")
        check_problem(await town.rest.call("POST", f"{API}/upload", b"x" * 1000, headers=mine), "RATE_LIMITED")
        # The same connection carries another client's request next.
        assert await kept[0].ask("198.51.100.2") == 200
        assert (await town.raw(headers=other)).status == 101
        assert (await sockets[0].acked("presence:get", {"userIds": []}))["ok"]
        await sockets[1].close()

        async def is_let_in() -> bool:
            return await kept[0].ask("198.51.100.1") == 200

        await eventually(is_let_in, "a client's socket that ended counts no more")
        # A proxy that does not say whose request it is has no bound itself.
        for _ in range(2 * FEW):
            await town.raw_chat(person.access_token)
        # Addresses of one line are one client.
        for number in range(FEW):
            await open_sockets(town, person, f"2001:db8:1:2::{number}", 1)
        assert (await town.raw(headers={"X-Forwarded-For": "2001:db8:1:2:ffff::1"})).status == 429
        assert (await town.raw(headers={"X-Forwarded-For": "2001:db8:1:3::1"})).status == 101


async def test_places_are_free_again_however_connections_end(crowded_server: ServerProcess, town_at: Any) -> None:
    """Upgrades, refusals, resets, half requests and a poll that is left: none of them keeps its place."""
    process = crowded_server
    address = process.url.removeprefix("http://").rsplit(":", 1)
    town: Town = town_at(process)
    person = await town.person()
    town.rest.close()
    async with callers_of(process) as callers:

        async def enter(send: bytes, *, is_reset: bool) -> None:
            plain = socket.create_connection((address[0], int(address[1])), DEADLINE)
            plain.sendall(send)
            if is_reset:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            plain.close()

        async def is_free() -> bool:
            caller = await callers.call()
            status = await caller.ask()
            await callers.hang_up(caller)
            return status == 200

        upgrade = (
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
        )
        path = "/socket.io/?EIO=4&transport="
        for request in (
            b"",
            b"GET /hea",
            b"\x16\x03\x01" * 100,
            f"{HEALTH}\r\n".encode(),
            f"POST {API}/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode(),
            f"GET {path}polling HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
            f"GET {path}websocket HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n".encode(),
            f"GET {path}websocket&sid=x HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n".encode(),
            b"BREW /socket.io/ HTTP/1.1\r\nHost: x\r\n\r\n",
            b"BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            for is_reset in (False, True):
                for _ in range(FEW):
                    await enter(request, is_reset=is_reset)
                await eventually(is_free, f"places are free after {request[:40]!r}")
        raws = [await town.raw_chat(person.access_token) for _ in range(FEW)]
        for raw in raws:
            await raw.send(json.dumps("garbage"))
        await eventually(is_free, "places of WebSockets that the server ended")
