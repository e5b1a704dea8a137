"""Where the bytes of uploads are kept: the interface that the disk and GridFS both fill."""

from pathlib import Path
from typing import Protocol


class Blob(Protocol):
    """Bytes that are stored and open for reading; they never change."""

    @property
    def size(self) -> int: ...

    async def read(self, offset: int, length: int) -> bytes:
        """Some bytes from `offset`, at most `length`; none where there are none any more. Raises `Unavailable`."""
        ...

    async def close(self) -> None: ...


class Blobs(Protocol):
    """Names are made by the server and hold only `a-z`, `0-9` and `-`. Every call may raise `Unavailable`."""

    async def prepare(self) -> None:
        """Make what the store needs."""
        ...

    async def put(self, name: str, path: Path) -> None:
        """Store the content of a file; when this returns it would survive a loss of power. The file may be gone."""
        ...

    async def open(self, name: str) -> Blob | None:
        """The bytes under this name; None where there are none."""
        ...

    async def remove(self, name: str) -> None:
        """Remove whatever there is under this name, also what an interrupted `put` left."""
        ...
