"""`GET /uploads/…`: stored files, whole or as a range, with headers that keep browsers from executing them."""

import asyncio
import re
from typing import Any, Final
from urllib.parse import quote

from tornado.iostream import StreamClosedError

from handlers.base import ApiHandler
from server.errors import RangeNotSatisfiable
from server.services.uploads.access import Blob, ServedFile

CHUNK_BYTES: Final = 256 * 1024
# A client that reads nothing for so many seconds is disconnected.
READ_TIMEOUT: Final = 60.0
CACHE: Final = "private, max-age=31536000, immutable"
RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class FileHandler(ApiHandler):
    """Public, because `<img>` sends no token: anyone who has the address may read the file."""

    _tag: str | None = None

    async def get(self, _name: str) -> None:
        file = await self.context.files.find(self.request.path)
        self._describe(file)
        if self.check_etag_header():
            self.set_status(304)
            return
        blob = await self.context.files.open(file)
        try:
            await self._send(file, blob)
        finally:
            await blob.close()

    def compute_etag(self) -> str | None:
        return self._tag

    def _describe(self, file: ServedFile) -> None:
        self._tag = f'"{file.tag}"'
        self.set_header("ETag", self._tag)
        self.set_header("Cache-Control", CACHE)
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("Content-Security-Policy", "default-src 'none'; sandbox")
        charset = "; charset=utf-8" if file.mime_type.startswith("text/") else ""
        self.set_header("Content-Type", file.mime_type + charset)
        self.set_header("Content-Disposition", disposition(file.file_name, is_inline=file.is_inline))

    async def _send(self, file: ServedFile, blob: Blob) -> None:
        first, end = 0, blob.size
        requested = self._requested_range(file, blob.size)
        if requested is not None:
            first, end = requested
            if first >= end:
                for name in ("Content-Disposition", "Cache-Control", "ETag"):
                    self.clear_header(name)
                self._tag = None
                self.set_header("Content-Range", f"bytes */{blob.size}")
                self.answer_problem(RangeNotSatisfiable())
                return
            self.set_status(206)
            self.set_header("Content-Range", f"bytes {first}-{end - 1}/{blob.size}")
        self.set_header("Content-Length", end - first)
        if self.request.method == "HEAD":
            return
        try:
            while first < end:
                data = await blob.read(first, min(CHUNK_BYTES, end - first))
                if not data:
                    # Removed while it is sent: a partial answer must not look complete.
                    self._cut()
                    return
                first += len(data)
                self.write(data)
                await asyncio.wait_for(self.flush(), READ_TIMEOUT)
        except StreamClosedError:
            return
        except TimeoutError:
            self._cut()

    def _cut(self) -> None:
        connection: Any = self.request.connection
        connection.close()

    def _requested_range(self, file: ServedFile, size: int) -> tuple[int, int] | None:
        """First byte and end (exclusive) of the requested range; None for the whole file, empty if out of bounds."""
        found = RANGE.fullmatch(self.request.headers.get("Range", "").strip())
        if found is None or self.request.method != "GET" or found.group() == "bytes=-":
            return None
        if self.request.headers.get("If-Range", f'"{file.tag}"') != f'"{file.tag}"':
            return None
        if not found[1]:
            return max(0, size - int(found[2])), size
        first, last = int(found[1]), int(found[2] or size)
        if found[2] and last < first:
            return None
        return first, min(last + 1, size)


def disposition(file_name: str, *, is_inline: bool) -> str:
    """`Content-Disposition` (RFC 6266): the name in ASCII for old clients, and in UTF-8 for others."""
    plain = re.sub(r"[^ !#-\[\]-~]", "_", file_name)
    return (
        f"{'inline' if is_inline else 'attachment'}; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"
    )
