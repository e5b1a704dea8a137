"""A lean Socket.IO client by long-polling, one connection for each request, with no reconnects of its own."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from tests.torture.chat_socket import ACK_HEAD, CONNECT_DEADLINE, HEAD, Lost

SEPARATOR = "\x1e"
PATH = "/socket.io/?EIO=4&transport=polling"
# Longer than the time between two pings, which answer a poll in any case.
POLL_DEADLINE = 30.0
GREETINGS = 5


class PollingChat:
    """One session on `/chat` that only listens. `hear(event, data)` is called for every event, in order."""

    def __init__(self, url: str, hear: Callable[[str, Any], None], *, acks: bool) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._hear = hear
        self._acks = acks
        self._path = PATH
        self._poll: asyncio.StreamWriter | None = None
        self._is_deaf = False
        self._polling: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()

    @classmethod
    async def open(cls, url: str, token: str, hear: Callable[[str, Any], None], *, acks: bool) -> "PollingChat":
        """Connect and authenticate. Raises `Lost` where that does not succeed in a few seconds."""
        chat = cls(url, hear, acks=acks)
        try:
            async with asyncio.timeout(CONNECT_DEADLINE):
                opening = await chat._ask("GET")
                chat._path = f"{PATH}&sid={json.loads(opening[0][1:])['sid']}"
                await chat._ask("POST", f"40/chat,{json.dumps({'token': token})}")
                for _ in range(GREETINGS):
                    packets = await chat._ask("GET")
                    if any(packet.startswith("40/chat,") for packet in packets):
                        await chat._take(packets)
                        break
                else:
                    raise ValueError("no answer to CONNECT")
        except (OSError, EOFError, TimeoutError, ValueError, LookupError) as error:
            raise Lost(f"no connection: {error!r}") from error
        chat._polling = asyncio.create_task(chat._poll_on())
        return chat

    async def leave(self) -> None:
        """Say goodbye; the server has counted this one out when it returns, or cannot be reached."""
        with contextlib.suppress(OSError, EOFError, TimeoutError, ValueError):
            async with asyncio.timeout(CONNECT_DEADLINE):
                await self._ask("POST", "1")
        self.cut()

    def freeze(self) -> None:
        """Take nothing in any more, and say nothing; the poll under way stays."""
        self._is_deaf = True

    def cut(self) -> None:
        """End it without a word."""
        self._is_deaf = True
        if self._polling is not None:
            self._polling.cancel()
        if self._poll is not None:
            self._poll.transport.abort()
        self.ended.set()

    async def _poll_on(self) -> None:
        try:
            while not self._is_deaf:
                async with asyncio.timeout(POLL_DEADLINE):
                    packets = await self._ask("GET")
                if not self._is_deaf:
                    await self._take(packets)
                else:
                    # Frozen: neither heard nor followed by another poll.
                    await asyncio.Event().wait()
        except (OSError, EOFError, TimeoutError, ValueError):
            pass
        finally:
            self.ended.set()

    async def _take(self, packets: list[str]) -> None:
        answers = []
        for packet in packets:
            if packet == "2":
                answers.append("3")
            elif packet.startswith(HEAD):
                start = packet.index("[")
                event, *data = json.loads(packet[start:])
                self._hear(event, data[0] if data else None)
                if self._acks and start > len(HEAD):
                    answers.append(f"{ACK_HEAD}{packet[len(HEAD) : start]}[]")
            elif packet[:1] == "1" or packet.startswith("41/chat,"):
                raise ValueError("the server has ended the session")
        if answers:
            await self._ask("POST", SEPARATOR.join(answers))

    async def _ask(self, method: str, body: str = "") -> list[str]:
        """One request; the packets of its answer. Raises `ValueError` where it is no success."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        if method == "GET":
            self._poll = writer
        try:
            data = body.encode()
            head = f"{method} {self._path} HTTP/1.1\r\nHost: {self._host}\r\nConnection: close\r\n"
            writer.write(f"{head}Content-Type: text/plain\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
            await writer.drain()
            answer_head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
            if not answer_head.startswith(b"HTTP/1.1 200"):
                raise ValueError(answer_head[:40])
            length = next(
                (int(line[15:]) for line in answer_head.decode().split("\r\n") if line.startswith("Content-Length:")), 0
            )
            if len(answer) < length:
                raise EOFError("the answer was cut off")
            return answer.decode().split(SEPARATOR)
        finally:
            writer.close()
