"""In-flight journal: rooms whose last messages may be stored but not yet delivered, in a file that survives a crash."""

import contextlib
import fcntl
import itertools
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from server.storage.disk.files import FILE_MODE, DiskThreads, make_folder

ROOM_ID: Final = re.compile("[0-9a-f]{32}")
NOT_OPEN: Final = -1


class InFlightJournal:
    """One room id per line. Written lines survive `kill -9`, as they are in the page cache.

    Servers that share a folder have one locked file each (`unsettled_rooms`, `unsettled_rooms.2`, …). Nothing is
    synced: a power failure may lose an entry, and then its messages may be missing from offline queues.
    """

    def __init__(self, path: Path, threads: DiskThreads) -> None:
        """`threads` must have exactly one thread, so that calls run in order."""
        self._path = path
        self._threads = threads
        self._descriptor = NOT_OPEN

    async def open(self) -> set[str]:
        """The room ids left by ended servers. Call it first. Raises `Unavailable` if the disk fails."""
        return await self._threads.run(self._open)

    async def add(self, room_ids: Collection[str]) -> None:
        """Append rooms. Raises `Unavailable` if the disk fails."""
        await self._threads.run(self._append, list(room_ids))

    async def replace(self, room_ids: Collection[str]) -> None:
        """Replace all entries by these. Raises `Unavailable` if the disk fails; the old entries remain then."""
        await self._threads.run(self._replace, list(room_ids))

    def close(self) -> None:
        if self._descriptor != NOT_OPEN:
            os.close(self._descriptor)
            self._descriptor = NOT_OPEN

    def _open(self) -> set[str]:
        self._acquire_file()
        for path in self._path.parent.glob(f"{self._path.stem}.*"):
            if path.suffix[1:].isdecimal():
                self._take_over(path)
        return _read(self._path)

    def _acquire_file(self) -> None:
        """Lock the first file that no running server has locked."""
        if self._descriptor != NOT_OPEN:
            return
        make_folder(self._path.parent)
        for path in _paths(self._path):
            descriptor = _lock(path)
            if descriptor is not None:
                self._path, self._descriptor = path, descriptor
                return

    def _take_over(self, path: Path) -> None:
        """Take over the entries of an ended server."""
        descriptor = None if path == self._path else _lock(path)
        if descriptor is not None:
            try:
                _write_all(self._descriptor, _lines(_read(path)))
                path.unlink()
            finally:
                os.close(descriptor)

    def _append(self, room_ids: list[str]) -> None:
        self._acquire_file()
        _write_all(self._descriptor, _lines(room_ids))

    def _replace(self, room_ids: list[str]) -> None:
        self._acquire_file()
        new = self._path.with_name(f"{self._path.name}.new")
        new.unlink(missing_ok=True)
        descriptor = _open_for_appending(new)
        try:
            # Locked before the rename, so that no other server finds it unlocked.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _write_all(descriptor, _lines(room_ids))
            new.replace(self._path)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise
        self.close()
        self._descriptor = descriptor


def _paths(first: Path) -> Iterator[Path]:
    yield first
    for number in itertools.count(2):
        yield first.with_name(f"{first.name}.{number}")


def _lock(path: Path) -> int | None:
    """Open or create the file and lock it; None if a running server has it locked."""
    while True:
        descriptor = _open_for_appending(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its owner may have just replaced or removed it.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _read(path: Path) -> set[str]:
    # Lines may be partial after a failed write, or garbage after a disk failure.
    return {line for line in path.read_bytes().decode("ascii", "replace").split("\n") if ROOM_ID.fullmatch(line)}


def _lines(room_ids: Collection[str]) -> bytes:
    # The leading newline ends a partial line.
    return "".join(f"\n{room_id}" for room_id in room_ids).encode() + b"\n"


def _open_for_appending(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)


def _write_all(descriptor: int, data: bytes) -> None:
    remaining = memoryview(data)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]
