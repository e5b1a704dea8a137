"""Interface of the upload blob stores; the disk and GridFS implement it."""

from pathlib import Path
from typing import Protocol


class Blob(Protocol):
    """A stored blob, open for reading. Blobs are immutable."""

    @property
    def size(self) -> int: ...

    async def read(self, offset: int, length: int) -> bytes:
        """Between 1 and `length` bytes from `offset`; empty at the end. Raises `Unavailable`."""
        ...

    async def close(self) -> None: ...


class Blobs(Protocol):
    """Blobs by name. The server generates the names from `a-z`, `0-9` and `-`. Every call may raise `Unavailable`."""

    async def prepare(self) -> None:
        """Create folders or indexes."""
        ...

    async def put(self, name: str, path: Path) -> None:
        """Store the content of a file. It is durable when this returns; the file may have been moved away."""
        ...

    async def open(self, name: str) -> Blob | None:
        """The blob of this name, or None."""
        ...

    async def remove(self, name: str) -> None:
        """Remove the blob of this name, and leftovers of an interrupted `put`."""
        ...
