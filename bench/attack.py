"""What benches of floods and of slow readers share: acks of people who have no part in it, and HTTP calls by hand."""

import asyncio
import json
import socket
import time
from collections import Counter
from typing import Any, Final

from bench.seed import Pair
from bench.servers import Server
from bench.sockets import ACK, EVENT, Link, ignore, open_links

PAGE: Final = 200
CALL_SECONDS: Final = 60.0
# Each character takes six bytes as JSON, the most that one can take.
LONGEST: Final = "\x01" * 10_000


class Calls:
    """One HTTP connection that is kept; every answer is read to its end."""

    def __init__(self, server: Server, token: str) -> None:
        self._server = server
        self._token = token
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, method: str, path: str, body: Any = None) -> int:
        """The status of the answer; 0 where the connection ended."""
        try:
            if self._writer is None or self._reader is None:
                self._reader, self._writer = await asyncio.open_connection(self._server.host, self._server.port)
            self._writer.write(request(self._server, self._token, method, path, body))
            head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), CALL_SECONDS)
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            await asyncio.wait_for(self._reader.readexactly(length), CALL_SECONDS)
            return int(head[9:12])
        except (OSError, EOFError, TimeoutError):
            self.close()
            return 0

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


def request(server: Server, token: str, method: str, path: str, body: Any = None) -> bytes:
    payload = b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{method} /api/v1{path} HTTP/1.1",
        f"Host: {server.host}:{server.port}",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(payload)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + payload


def page_of(pair: Pair) -> str:
    """The largest page of history that can be asked for."""
    return f"/messages/chats/{pair.room_id}/messages?limit={PAGE}"


async def fill_room(server: Server, pair: Pair, count: int = PAGE) -> None:
    """The longest messages that there can be, a page of them."""
    calls = Calls(server, pair.tokens[0])
    for _ in range(count):
        status = await calls.call("POST", f"/messages/chats/{pair.room_id}/messages", {"content": LONGEST})
        while status == 429:
            await asyncio.sleep(0.5)
            status = await calls.call("POST", f"/messages/chats/{pair.room_id}/messages", {"content": LONGEST})
        if status != 201:
            raise RuntimeError(f"a message was answered with {status}")
    calls.close()


class Bystander:
    """The first of a pair: sends one small message after the other, and notes how long each ack takes."""

    def __init__(self, pair: Pair, pause: float) -> None:
        self._pair = pair
        self._pause = pause
        self._acked = asyncio.Event()
        self.late: list[float] = []
        self.refusals: Counter[str] = Counter()
        self._link: Link

    async def open(self, server: Server) -> None:
        self._link, _other = await open_links(server.host, server.port, list(self._pair.tokens), ignore)
        self._link.on_frame = self._take

    async def send_for(self, seconds: float) -> list[float]:
        """The seconds that each ack took."""
        return await self.send_until(asyncio.ensure_future(asyncio.sleep(seconds)))

    async def send_until(self, ends: asyncio.Future[None]) -> list[float]:
        """As `send_for`."""
        self.late = []
        payload = EVENT + b'1["message:send",{"roomId":"%s","content":"x"}]' % self._pair.room_id.encode()
        while not ends.done():
            self._acked.clear()
            begun = time.perf_counter()
            self._link.send(payload)
            await self._acked.wait()
            self.late.append(time.perf_counter() - begun)
            await asyncio.sleep(self._pause)
        return self.late

    def _take(self, buffer: bytes, start: int, _stop: int) -> None:
        if buffer.startswith(ACK, start):
            if buffer.find(b'"ok":true', start, start + 40) < 0:
                self.refusals[buffer[start : start + 120].decode(errors="replace")] += 1
            self._acked.set()


async def connect_unread(server: Server) -> socket.socket:
    """A connection with minimal buffers, from which nothing is read."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, (server.host, server.port))
    return plain
