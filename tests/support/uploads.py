"""Uploads of the tests: forms built by hand, pictures and files made on the spot, connections that stop half-way."""

import asyncio
import io
import zipfile
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from tests.support.people import Person
from tests.support.rest import API, Answer

UPLOAD = f"{API}/upload"
BOUNDARY = "----test-boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
GPS_MARK = b"SECRET-PLACE"

PDF = b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!doctype html><script>alert(document.cookie)</script>"
# What a browser that guesses would take for a page, and a picture viewer for a picture.
GIF_AND_HTML = b"GIF89a/*" + b"\x00" * 16 + b"*/=1;</script><script>alert(1)</script>"


def zip_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("한글.txt", "hello")
    return buffer.getvalue()


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: Any) -> bytes:
    """A picture of this kind that does not compress well."""
    buffer = io.BytesIO()
    noise = Image.effect_noise(size, 90).convert("RGB")
    if mode == "RGBA":
        noise.putalpha(128)
    noise.convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def plain_picture(size: tuple[int, int]) -> bytes:
    """A PNG of one colour: few bytes and much work."""
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    return buffer.getvalue()


def many_scans(size: tuple[int, int], count: int) -> bytes:
    """A progressive JPEG of one colour that goes over its pixels `count` times: its last scan is there often."""
    buffer = io.BytesIO()
    Image.new("L", size, 90).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    first, last = data.index(b"\xff\xda"), data.rindex(b"\xff\xda")
    has = data[first:].count(b"\xff\xda")
    return data[:-2] + data[last:-2] * (count - has) + data[-2:]


def photograph(size: tuple[int, int], orientation: int) -> bytes:
    """A JPEG as a telephone makes it: turned by its EXIF data, which also say where it was taken."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = GPS_MARK.decode()
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (37.0, 33.0, 59.0)
    buffer = io.BytesIO()
    upper = Image.new("RGB", size, "red")
    upper.paste("blue", (0, size[1] // 2, size[0], size[1]))
    upper.save(buffer, "JPEG", exif=exif, comment=GPS_MARK)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of 400 million pixels in a few kilobytes."""
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    return buffer.getvalue()


def part(name: str, value: bytes, file_name: str | None = None) -> bytes:
    """One part of a form; with a `file_name` it is a file."""
    extra = f'; filename="{file_name}"' if file_name is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n'
    if file_name is not None:
        head += "Content-Type: image/png\r\n"  # what it really is, the content says
    return head.encode() + b"\r\n" + value + b"\r\n"


def form(data: bytes, name: str = "a.bin", **fields: str) -> bytes:
    """The file first, as a browser sends it, and then the fields."""
    parts = [part("file", data, name), *(part(key, value.encode()) for key, value in fields.items())]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def post_form(person: Person, body: bytes, headers: Mapping[str, str] = FORM) -> Answer:
    return await person.call("POST", UPLOAD, body, headers=headers)


async def upload(person: Person, data: bytes, name: str = "a.bin", **fields: str) -> dict[str, Any]:
    """Upload and return what the server says of it."""
    answer = await post_form(person, form(data, name, **fields))
    assert answer.status == 201, answer
    return dict(answer.body)


async def fetch(person: Person, url: str, method: str = "GET", **headers: str) -> Answer:
    """Ask for a file, without a token, as an `<img>` does. Header names are written with `_`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await person.town.rest.call(method, url, headers=named)


class HalfUpload:
    """An upload by hand: it sends what it is told to and reads when it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def begin(cls, person: Person, *, length: int | None) -> "HalfUpload":
        """Send the head of a request with this Content-Length; None sends the body in chunks."""
        address = urlsplit(person.town.url)
        upload = cls(*await asyncio.open_connection(address.hostname, address.port))
        size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        head = f"POST {UPLOAD} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {person.access_token}\r\n"
        upload.writer.write(f"{head}Content-Type: {FORM['Content-Type']}\r\n{size}\r\n\r\n".encode())
        return upload

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send_chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def status(self, deadline: float = 30.0) -> int:
        """The status of the answer, which may come before everything is sent."""
        async with asyncio.timeout(deadline):
            return int((await self.reader.readline()).split()[1])

    def cut(self) -> None:
        """End the connection without a word."""
        self.writer.transport.abort()
