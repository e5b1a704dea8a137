"""A lean Socket.IO client over one raw WebSocket: acks, pings, events to a callback, and no reconnects of its own."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from tests.support.raw_socket import CLOSE, TEXT, RawSocket

CONNECT_DEADLINE = 5.0
HEAD = "42/chat,"
ACK_HEAD = "43/chat,"


class Lost(Exception):
    """The connection ended before the answer came: the outcome is unknown."""


class ChatSocket:
    """One connection on `/chat`. `hear(event, data)` is called for every event, in order.

    `acks` says whether events that ask for an acknowledgement get one, after `hear` has returned.
    """

    def __init__(self, raw: RawSocket, hear: Callable[[str, Any], None], *, acks: bool) -> None:
        self._raw = raw
        self._hear = hear
        self._acks = acks
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._next = 0
        self._is_frozen = False
        self.ended = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, url: str, token: str, hear: Callable[[str, Any], None], *, acks: bool) -> "ChatSocket":
        """Connect and authenticate. Raises `Lost` where that does not succeed in a few seconds."""
        try:
            async with asyncio.timeout(CONNECT_DEADLINE):
                raw = await RawSocket.open(url)
                await raw.begin_session()
                await raw.enter_chat(token)
        except (OSError, EOFError, TimeoutError, AssertionError, ValueError) as error:
            raise Lost(f"no connection: {error!r}") from error
        return cls(raw, hear, acks=acks)

    def begin(self, event: str, data: Any) -> "asyncio.Future[Any]":
        """Send an event now; ends with its acknowledgement, or with `Lost`."""
        self._next += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.ended.is_set():
            answer.set_exception(Lost("the connection has ended"))
            return answer
        self._waiting[self._next] = answer
        self._write(f"{HEAD}{self._next}{json.dumps([event, data], ensure_ascii=False)}")
        return answer

    async def call(self, event: str, data: Any, timeout: float) -> Any:
        """Send an event and return its acknowledgement. Raises `Lost` where none comes in time."""
        try:
            return await asyncio.wait_for(self.begin(event, data), timeout)
        except TimeoutError:
            raise Lost(f"{event} was not acknowledged in {timeout} s") from None

    async def leave(self) -> None:
        """Say goodbye and wait until the server has closed the connection, so that it counts this one out."""
        self._write("41/chat,")
        self._write("1")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), CONNECT_DEADLINE)
        self.cut()

    def freeze(self) -> None:
        """Take nothing in any more, as a phone that has lost its network; it does not know yet, nor does the server."""
        self._is_frozen = True
        with contextlib.suppress(RuntimeError):
            self._raw.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def cut(self) -> None:
        """End it without a word."""
        self._raw.writer.transport.abort()

    def _write(self, text: str) -> None:
        if not self._raw.writer.is_closing():
            self._raw.writer.write(self._raw.encode(text))

    async def _read(self) -> None:
        try:
            while True:
                frame = await self._raw.frame()
                if frame.opcode == CLOSE:
                    break
                if self._is_frozen:
                    continue
                if frame.opcode == TEXT:
                    self._take(frame.payload.decode())
        except (OSError, EOFError):
            pass
        finally:
            self.ended.set()
            self._raw.writer.close()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(Lost("the connection ended"))
                    answer.exception()
            self._waiting.clear()

    def _take(self, text: str) -> None:
        if text == "2":
            self._write("3")
        elif text.startswith(ACK_HEAD):
            start = text.index("[")
            answer = self._waiting.pop(int(text[len(ACK_HEAD) : start]), None)
            if answer is not None and not answer.done():
                answer.set_result(json.loads(text[start:])[0])
        elif text.startswith(HEAD):
            start = text.index("[")
            event, *data = json.loads(text[start:])
            self._hear(event, data[0] if data else None)
            if self._acks and start > len(HEAD):
                self._write(f"{ACK_HEAD}{text[len(HEAD) : start]}[]")
