"""Rooms whose last messages may be stored but not yet delivered, in a file that outlives a killed server."""

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
    """One room id a line. What `add` and `replace` have written is there after `kill -9`: the system holds it.

    Servers that share a folder have a file each (`unsettled_rooms`, `unsettled_rooms.2`, …), which they keep locked.
    Nothing is synced to the disk: a loss of power may lose a note, and with it a message's place on an offline queue.
    """

    def __init__(self, path: Path, threads: DiskThreads) -> None:
        """`threads` must have one thread, which keeps the order of calls."""
        self._path = path
        self._threads = threads
        self._descriptor = NOT_OPEN

    async def open(self) -> set[str]:
        """What servers that have ended left. Call it first. Raises `Unavailable` where the disk refuses."""
        return await self._threads.run(self._open)

    async def add(self, room_ids: Collection[str]) -> None:
        """Raises `Unavailable` where the disk refuses."""
        await self._threads.run(self._append, list(room_ids))

    async def replace(self, room_ids: Collection[str]) -> None:
        """Forget all others. Raises `Unavailable` where the disk refuses; then all stay."""
        await self._threads.run(self._replace, list(room_ids))

    def close(self) -> None:
        if self._descriptor != NOT_OPEN:
            os.close(self._descriptor)
            self._descriptor = NOT_OPEN

    def _open(self) -> set[str]:
        self._take_file()
        for path in self._path.parent.glob(f"{self._path.stem}.*"):
            if path.suffix[1:].isdecimal():
                self._inherit(path)
        return _read(self._path)

    def _take_file(self) -> None:
        """Make the first file that is no living server's our own."""
        if self._descriptor != NOT_OPEN:
            return
        make_folder(self._path.parent)
        for path in _paths(self._path):
            descriptor = _lock(path)
            if descriptor is not None:
                self._path, self._descriptor = path, descriptor
                return

    def _inherit(self, path: Path) -> None:
        """Take over the notes of a server that has ended."""
        descriptor = None if path == self._path else _lock(path)
        if descriptor is not None:
            try:
                _write_all(self._descriptor, _lines(_read(path)))
                path.unlink()
            finally:
                os.close(descriptor)

    def _append(self, room_ids: list[str]) -> None:
        self._take_file()
        _write_all(self._descriptor, _lines(room_ids))

    def _replace(self, room_ids: list[str]) -> None:
        self._take_file()
        fresh = self._path.with_name(f"{self._path.name}.new")
        fresh.unlink(missing_ok=True)
        descriptor = _open_for_appending(fresh)
        try:
            # Before it has the name, so that nobody finds it free.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _write_all(descriptor, _lines(room_ids))
            fresh.replace(self._path)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
        self.close()
        self._descriptor = descriptor


def _paths(first: Path) -> Iterator[Path]:
    yield first
    for number in itertools.count(2):
        yield first.with_name(f"{first.name}.{number}")


def _lock(path: Path) -> int | None:
    """The file, made if need be, as our own until it is closed; None where it is a living server's."""
    while True:
        descriptor = _open_for_appending(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its owner may have put another in its place just now, or taken it away.
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
    # A line may be half a line, of a write that the disk refused, or anything, where a disk has failed.
    return {line for line in path.read_bytes().decode("ascii", "replace").split("\n") if ROOM_ID.fullmatch(line)}


def _lines(room_ids: Collection[str]) -> bytes:
    # A line of its own also after half a line.
    return "".join(f"\n{room_id}" for room_id in room_ids).encode() + b"\n"


def _open_for_appending(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
