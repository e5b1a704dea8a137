"""Rooms whose last messages may be stored but not yet delivered, in a file that outlives a killed server."""

import contextlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from server.storage.disk import FILE_MODE, DiskThreads, make_folder

ID_DIGITS: Final = 32
NOT_OPEN: Final = -1


class UnsettledRooms:
    """One room id a line. What `add` and `replace` have written is there after `kill -9`: the system holds it.

    Nothing is synced to the disk: a loss of power may lose a note, and with it a message's place on an offline queue.
    """

    def __init__(self, path: Path, threads: DiskThreads) -> None:
        """`threads` must have one thread, which keeps the order of calls."""
        self._path = path
        self._threads = threads
        self._descriptor = NOT_OPEN

    async def open(self) -> set[str]:
        """What an earlier server has left. Call it first. Raises `Unavailable` where the disk refuses."""
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
        make_folder(self._path.parent)
        self._descriptor = _open_for_appending(self._path)
        # The last line may be half a line, of a write that the disk refused.
        return {line for line in self._path.read_text().splitlines() if len(line) == ID_DIGITS}

    def _append(self, room_ids: list[str]) -> None:
        _write_all(self._descriptor, _lines(room_ids))

    def _replace(self, room_ids: list[str]) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = _open_for_appending(fresh)
        try:
            _write_all(descriptor, _lines(room_ids))
            fresh.replace(self._path)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
        self.close()
        self._descriptor = descriptor


def _lines(room_ids: list[str]) -> bytes:
    # A line of its own also after half a line.
    return "".join(f"\n{room_id}" for room_id in room_ids).encode() + b"\n"


def _open_for_appending(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
