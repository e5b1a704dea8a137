"""Large answers over REST: what they count as reads, and clients that do not read them."""

import asyncio
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from handlers import slow_clients
from server.services.rooms import history
from tests.conftest import StartServer
from tests.support.people import Person, Town
from tests.support.rest import API, MESSAGES
from tests.support.shapes import check_problem
from tests.test_costs import serving

CONTENT = "\x01" * 10_000
COUNT = 40
BEYOND_KERNEL = 150
DEADLINE = 60.0


async def large_room(town: Town, count: int = COUNT) -> tuple[Person, Person, str]:
    one, other, room_id = await town.pair()
    await asyncio.gather(*(one.send(room_id, CONTENT) for _ in range(count)))
    return one, other, room_id


async def test_reads_are_limited_and_large_ones_count_as_several(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"limits.enabled": True, "limits.reads": 5}))
    one, other, room_id = await large_room(town)
    page = f"{MESSAGES}/chats/{room_id}/messages"
    assert (await one.get(page, limit=200)).status == 200
    answers = await asyncio.gather(*(one.get(page, limit=200) for _ in range(10)))
    refused = [answer for answer in answers if answer.status != 200]
    assert len(refused) >= 8
    for answer in refused:
        check_problem(answer, "RATE_LIMITED")
    assert int(refused[0].headers["Retry-After"]) > 1, "what was read is paid for"
    check_problem(await one.get(f"{API}/users/me"), "RATE_LIMITED")
    device = await one.connect()
    assert (await device.call("message:send", {"roomId": room_id, "content": "x"}))["ok"]
    assert (await device.call("sync", {"rooms": {room_id: 0}}))["error"]["code"] == "RATE_LIMITED"
    assert [(await other.get(page, limit=1)).status for _ in range(10)] == [200] * 10


async def unread(url: str, path: str, token: str) -> socket.socket:
    """A connection that has asked for something and takes as little of it as can be."""
    address = urlsplit(url)
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(plain, (address.hostname, address.port))
    head = f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
    await loop.sock_sendall(plain, head.encode())
    return plain


async def read_all(plain: socket.socket) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    async with asyncio.timeout(DEADLINE):
        try:
            while more := await loop.sock_recv(plain, 65536):
                data += more
        except ConnectionError:
            pass
    return data


async def test_a_client_that_takes_nothing_of_its_answer_loses_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_clients, "READ_TIMEOUT", 0.3)
    # The kernel takes some megabytes for whoever does not read.
    monkeypatch.setattr(history, "PAGE_BYTES", 64 * 1024 * 1024)
    ended = asyncio.Event()
    end_connection = slow_clients.end_connection

    def end(handler: Any) -> None:
        end_connection(handler)
        ended.set()

    monkeypatch.setattr(slow_clients, "end_connection", end)
    async with serving(tmp_path) as (_context, port):
        town = Town(f"http://127.0.0.1:{port}")
        try:
            one, _other, room_id = await large_room(town, BEYOND_KERNEL)
            page = f"{MESSAGES}/chats/{room_id}/messages?limit=200"
            plain = await unread(town.url, page, one.access_token)
            async with asyncio.timeout(DEADLINE):
                await ended.wait()
            head, _, body = (await read_all(plain)).partition(b"\r\n\r\n")
            assert b"200 OK" in head
            assert len(body) < int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            plain.close()
            assert (await one.history(room_id, limit=200))["messages"], "who reads is served"
        finally:
            await town.close()
