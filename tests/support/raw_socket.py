"""A WebSocket client that can misbehave: any frame, any order, and it reads only when told to."""

import asyncio
import base64
import contextlib
import json
import os
import socket
import struct
from typing import Any, NamedTuple
from urllib.parse import urlsplit

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
CLOSING_SECONDS = 30.0
PATH = "/socket.io/?EIO=4&transport=websocket"
DEADLINE = 30.0


class Frame(NamedTuple):
    opcode: int
    payload: bytes


class RawSocket:
    """One TCP connection. `status` is the answer to the upgrade request (101 when it is a WebSocket)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.response_head = ""
        self.handshake: dict[str, Any] = {}

    @classmethod
    async def open(
        cls, url: str, path: str = PATH, headers: dict[str, str] | None = None, receive_buffer: int | None = None
    ) -> "RawSocket":
        """Connect and ask for the upgrade. `receive_buffer` bounds what the kernel takes while nobody reads."""
        address = urlsplit(url)
        assert address.hostname is not None
        plain = socket.socket()
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, (address.hostname, address.port or 80))
        reader, writer = await asyncio.open_connection(sock=plain, limit=receive_buffer or 2**16)
        raw = cls(reader, writer)
        lines = {
            "Host": address.netloc,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            **(headers or {}),
        }
        request = f"GET {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(request.encode() + b"\r\n")
        async with asyncio.timeout(DEADLINE):
            head = await reader.readuntil(b"\r\n\r\n")
        raw.response_head = head.decode("latin-1")
        raw.status = int(head.split(b" ", 2)[1])
        return raw

    async def begin_session(self) -> None:
        """Take the Engine.IO handshake; there is no namespace yet."""
        assert self.status == 101, self.status
        opening = await self.text()
        assert opening.startswith("0"), opening
        self.handshake = json.loads(opening[1:])

    async def enter_chat(self, token: str) -> None:
        """Authenticate and wait until `/chat` has accepted."""
        await self.send(f"40/chat,{json.dumps({'token': token})}")
        assert "sid" in json.loads(await self.packet("40/chat,"))

    async def send(self, payload: str | bytes, opcode: int | None = None) -> None:
        """Send one frame: text for str, binary for bytes, or what `opcode` says."""
        self.writer.write(self.encode(payload, opcode))
        await self.writer.drain()

    @staticmethod
    def encode(payload: str | bytes, opcode: int | None = None) -> bytes:
        """One frame, as `send` writes it."""
        data = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload
        kind = opcode if opcode is not None else TEXT if isinstance(payload, str) else BINARY
        length = len(data)
        if length < 126:
            head = struct.pack("!BB", 0x80 | kind, 0x80 | length)
        elif length < 2**16:
            head = struct.pack("!BBH", 0x80 | kind, 0x80 | 126, length)
        else:
            head = struct.pack("!BBQ", 0x80 | kind, 0x80 | 127, length)
        return head + b"\0\0\0\0" + data  # a mask of zeros is a mask

    async def send_raw(self, data: bytes) -> None:
        """Send bytes that need not be a frame."""
        self.writer.write(data)
        await self.writer.drain()

    async def emit(self, event: str, data: Any, ack: int | None = None) -> None:
        number = "" if ack is None else str(ack)
        await self.send(f"42/chat,{number}{json.dumps([event, data])}")

    async def frame(self) -> Frame:
        """The next frame. Raises `asyncio.IncompleteReadError` or `ConnectionError` when the connection ends."""
        first, second = await self.reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return Frame(first & 0x0F, await self.reader.readexactly(length))

    async def text(self) -> str:
        """The next text; Engine.IO pings are answered on the way."""
        async with asyncio.timeout(DEADLINE):
            while True:
                frame = await self.frame()
                if frame.opcode == TEXT and frame.payload == b"2":
                    await self.send("3")
                elif frame.opcode == TEXT:
                    return frame.payload.decode()
                elif frame.opcode == CLOSE:
                    await self.send(frame.payload, CLOSE)
                    raise ConnectionResetError("the server closed the connection")

    async def packet(self, start: str) -> str:
        """What follows `start` in the next text that begins so; others are passed over."""
        while True:
            text = await self.text()
            if text.startswith(start):
                return text[len(start) :]

    async def event(self, name: str) -> Any:
        """The data of the next such event; whether it asks for an acknowledgement does not matter."""
        while True:
            text = await self.packet("42/chat,")
            heard, *data = json.loads(text[text.index("[") :])
            if heard == name:
                return data[0] if data else None

    async def acked(self, event: str, data: Any, number: int = 1) -> Any:
        """Emit with an acknowledgement and wait for it."""
        await self.emit(event, data, number)
        return json.loads(await self.packet(f"43/chat,{number}"))[0]

    async def ended(self, deadline: float = DEADLINE) -> None:
        """Read on until the server has closed this connection; nothing else is answered meanwhile."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            async with asyncio.timeout(deadline):
                while (frame := await self.frame()).opcode != CLOSE:
                    pass
                await self.send(frame.payload, CLOSE)

    async def ending(self) -> int | None:
        """The code in the server's close frame; the connection is over after it."""
        async with asyncio.timeout(CLOSING_SECONDS):
            while (heard := await self.frame()).opcode != CLOSE:
                pass
            assert await self.reader.read() == b""
        return int.from_bytes(heard.payload[:2], "big") if heard.payload else None

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
