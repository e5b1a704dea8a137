"""Blob store in MongoDB, in GridFS format, so that several servers share uploads without a shared disk.

The driver's own GridFS classes are not used: their writer buffers up to 48 MB before it sends, and their reader sorts
all chunks of a file, for which the embedded store needs as much memory as the file has bytes.
"""

from itertools import count
from pathlib import Path
from typing import Any, Final

from bson import Binary

from server.models import now
from server.storage.blobs import Blob
from server.storage.disk.files import DiskThreads
from server.storage.mongo.database import Database

BUCKET: Final = "upload_blobs"
CHUNK_BYTES: Final = 255 * 1024  # the default of GridFS
CHUNKS_PER_CALL: Final = 4


class GridFSBlob:
    def __init__(self, database: Database, chunks: Any, name: str, size: int, chunk_bytes: int) -> None:
        self._database = database
        self._chunks = chunks
        self._name = name
        self._size = size
        self._chunk_bytes = chunk_bytes

    @property
    def size(self) -> int:
        return self._size

    async def read(self, offset: int, length: int) -> bytes:
        number, start = divmod(offset, self._chunk_bytes)
        chunk: dict[str, Any] | None = await self._database.run(
            self._chunks.find_one, {"files_id": self._name, "n": number}
        )
        return b"" if chunk is None else bytes(chunk["data"][start : start + length])

    async def close(self) -> None:
        """Does nothing: no resource is open."""


class GridFSBlobs:
    """The collections `upload_blobs.files` and `upload_blobs.chunks`; the blob name is the `_id` of the file."""

    def __init__(self, database: Database, threads: DiskThreads) -> None:
        self._database = database
        self._threads = threads
        self._files: Any = database.collection(f"{BUCKET}.files")
        self._chunks: Any = database.collection(f"{BUCKET}.chunks")

    async def prepare(self) -> None:
        run = self._database.run
        await run(self._files.create_index, [("filename", 1), ("uploadDate", 1)])
        await run(self._chunks.create_index, [("files_id", 1), ("n", 1)], unique=True)

    async def put(self, name: str, path: Path) -> None:
        size = 0
        with await self._threads.run(path.open, "rb", 0) as file:
            for first in count(step=CHUNKS_PER_CALL):
                parts = await self._threads.run(_read_parts, file)
                if not parts:
                    break
                size += sum(map(len, parts))
                documents = [
                    {"files_id": name, "n": first + index, "data": Binary(part)} for index, part in enumerate(parts)
                ]
                await self._database.run(self._chunks.insert_many, documents)
        # The file document is written last: the blob does not exist before.
        document = {"_id": name, "filename": name, "length": size, "chunkSize": CHUNK_BYTES, "uploadDate": now()}
        await self._database.run(self._files.insert_one, document)

    async def open(self, name: str) -> Blob | None:
        file: dict[str, Any] | None = await self._database.run(self._files.find_one, {"_id": name})
        if file is None:
            return None
        return GridFSBlob(self._database, self._chunks, name, int(file["length"]), int(file["chunkSize"]))

    async def remove(self, name: str) -> None:
        await self._database.run(self._files.delete_one, {"_id": name})
        await self._database.run(self._chunks.delete_many, {"files_id": name})


def _read_parts(file: Any) -> list[bytes]:
    """The next chunks; only the last one of a file may be short."""
    parts: list[bytes] = []
    while len(parts) < CHUNKS_PER_CALL and (part := file.read(CHUNK_BYTES)):
        parts.append(part)
    return parts
