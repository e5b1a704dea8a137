"""HTTP by hand: requests that no client library would send, and what comes back to them."""

import asyncio
from typing import NamedTuple
from urllib.parse import urlsplit

DEADLINE = 30.0


class RawAnswer(NamedTuple):
    """The status (0 where the connection ended without an answer), the headers by lower-case name, the body."""

    status: int
    headers: dict[str, str]
    body: bytes


async def ask(url: str, request: bytes) -> RawAnswer:
    """Send these bytes on a connection of their own; the first answer."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        async with asyncio.timeout(DEADLINE):
            writer.write(request)
            await writer.drain()
            return await _read(reader, has_body=not request.startswith(b"HEAD "))
    except (asyncio.IncompleteReadError, ConnectionError):
        return RawAnswer(0, {}, b"")
    finally:
        writer.close()


def request(method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    """A request with these headers; the length of a body is told unless the headers tell one."""
    lines = {"Host": "x", **(headers or {})}
    if body and not {name.lower() for name in lines} & {"content-length", "transfer-encoding"}:
        lines["Content-Length"] = str(len(body))
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return head.encode("latin-1") + b"\r\n" + body


async def _read(reader: asyncio.StreamReader, *, has_body: bool) -> RawAnswer:
    status = 100
    while status == 100:
        # To `Expect: 100-continue`; the answer follows.
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ", 2)[1])
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    size = int(headers.get("content-length", "0")) if has_body else 0
    return RawAnswer(status, headers, await reader.readexactly(size))
