"""A lean Socket.IO client for load: one WebSocket on `/chat`, spoken by hand, a few microseconds for each frame."""

import asyncio
from collections.abc import Callable
from typing import Final

NAMESPACE: Final = b"/chat"
EVENT: Final = b"42" + NAMESPACE + b","
ACK: Final = b"43" + NAMESPACE + b","
MESSAGE_NEW: Final = EVENT + b'["message:new"'
_CONNECTED: Final = b"40" + NAMESPACE
_REFUSED: Final = b"44" + NAMESPACE
_PING: Final = b"2"
_TEXT: Final = 0x81
_CLOSE: Final = 0x88
CONNECT_SECONDS: Final = 30.0
# A key of zeros leaves the payload as it is; servers unmask it all the same.
_MASK: Final = b"\0\0\0\0"

OnFrame = Callable[[bytes, int, int], None]


class Refused(Exception):
    """The server did not take the connection."""


def text_frame(payload: bytes) -> bytes:
    """A client's WebSocket frame (RFC 6455) around an Engine.IO packet of less than 64 KiB."""
    size = len(payload)
    head = bytes((_TEXT, 0x80 | size)) if size < 126 else bytes((_TEXT, 0xFE)) + size.to_bytes(2, "big")
    return head + _MASK + payload


_PONG_FRAME: Final = text_frame(b"3")


class Link(asyncio.Protocol):
    """`on_frame(buffer, start, stop)` gets every Engine.IO packet after the connect, without copying it."""

    def __init__(self, host: str, token: str, on_frame: OnFrame) -> None:
        self.on_frame = on_frame
        self._host = host
        self._token = token
        self._rest = b""
        self._is_upgraded = False
        self.connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.write(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: " + self._host.encode() + b"\r\n"
            b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )

    def connection_lost(self, error: Exception | None) -> None:
        if not self.connected.done():
            self.connected.set_exception(Refused(f"closed before it was connected: {error}"))
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        buffer = self._rest + data if self._rest else data
        position, end = 0, len(buffer)
        if not self._is_upgraded:
            position = buffer.find(b"\r\n\r\n") + 4
            if position < 4:
                self._rest = buffer
                return
            if not buffer.startswith(b"HTTP/1.1 101"):
                self._refuse(buffer)
                return
            self._is_upgraded = True
        while end - position >= 2:
            size, start = buffer[position + 1], position + 2
            if size == 126:
                start += 2
                size = int.from_bytes(buffer[position + 2 : start], "big")
            elif size == 127:
                start += 8
                size = int.from_bytes(buffer[position + 2 : start], "big")
            stop = start + size
            if stop > end:
                break
            if buffer[position] == _TEXT:
                self._take(buffer, start, stop)
            elif buffer[position] == _CLOSE:
                self.transport.close()
            position = stop
        self._rest = buffer[position:] if position < end else b""

    def send(self, packet: bytes) -> None:
        self.transport.write(text_frame(packet))

    def _take(self, buffer: bytes, start: int, stop: int) -> None:
        if stop - start == 1:
            if buffer[start : start + 1] == _PING:
                self.transport.write(_PONG_FRAME)
        elif self.connected.done():
            self.on_frame(buffer, start, stop)
        elif buffer[start : start + 1] == b"0":
            self.send(_CONNECTED + b',{"token":"' + self._token.encode() + b'"}')
        elif buffer.startswith(_CONNECTED, start):
            self.connected.set_result(None)
        elif buffer.startswith(_REFUSED, start):
            self._refuse(buffer[start:stop])

    def _refuse(self, answer: bytes) -> None:
        if not self.connected.done():
            self.connected.set_exception(Refused(answer[:200].decode(errors="replace")))
        self.transport.close()


def ignore(_buffer: bytes, _start: int, _stop: int) -> None:
    """For links whose frames do not matter, or not yet."""


async def open_link(host: str, port: int, token: str, on_frame: OnFrame = ignore, *, source: str | None = None) -> Link:
    """A link that is connected to `/chat`; `source` is its local address. Raises `Refused` or `OSError`."""
    loop = asyncio.get_running_loop()
    _transport, link = await loop.create_connection(
        lambda: Link(f"{host}:{port}", token, on_frame),
        host,
        port,
        local_addr=None if source is None else (source, 0),
    )
    try:
        await asyncio.wait_for(link.connected, CONNECT_SECONDS)
    except BaseException:
        link.transport.close()
        raise
    return link


async def open_links(
    host: str, port: int, tokens: list[str], on_frame: OnFrame = ignore, *, at_once: int = 50, sources: int = 1
) -> list[Link]:
    """One link for each token, in their order; the local addresses 127.0.0.1 to 127.0.0.`sources` take turns."""
    bound = asyncio.Semaphore(at_once)

    async def open_one(number: int, token: str) -> Link:
        source = None if sources == 1 else f"127.0.0.{1 + number % sources}"
        async with bound:
            return await open_link(host, port, token, on_frame, source=source)

    return await asyncio.gather(*(open_one(number, token) for number, token in enumerate(tokens)))


def close_links(links: list[Link]) -> None:
    """End them at once, as clients do that lose their network."""
    for link in links:
        link.transport.abort()
