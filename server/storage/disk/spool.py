"""Spool for uploads in progress: one locked folder per process, removed by others after the process has ended."""

import contextlib
import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import Final

from server.storage.disk.files import FILE_MODE, FOLDER_MODE, DiskThreads, make_folder

NAME_BYTES: Final = 16


class SpoolFile:
    """One upload in progress. No client can read it."""

    def __init__(self, path: Path, descriptor: int, threads: DiskThreads) -> None:
        self.path = path
        self._descriptor: int | None = descriptor
        self._threads = threads

    async def write(self, data: bytes) -> None:
        """Append. Awaiting it slows the sender down to the speed of the disk (backpressure)."""
        await self._threads.run(self._write, data)

    async def finish(self) -> None:
        """End writing; the file may then be read by its path."""
        await self._threads.run(self._close)

    async def discard(self) -> None:
        """Close and remove it. Idempotent."""
        await self._threads.run(self._discard)

    def _write(self, data: bytes) -> None:
        if self._descriptor is None:
            raise ValueError("the file is finished")
        remaining = memoryview(data)
        while remaining:
            remaining = remaining[os.write(self._descriptor, remaining) :]

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _discard(self) -> None:
        self._close()
        self.path.unlink(missing_ok=True)


class Spool:
    """`folder/<random>/`, locked while this process lives. An unlocked folder was left by a killed process."""

    def __init__(self, folder: Path, threads: DiskThreads) -> None:
        self._folder = folder
        self._threads = threads
        self._own: Path | None = None
        self._lock: int | None = None

    async def open(self) -> None:
        """Create the folder of this process and remove those of ended processes."""
        await self._threads.run(self._open)
        await self.sweep()

    async def create(self) -> SpoolFile:
        """A new, empty file."""
        path = self.new_path()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = await self._threads.run(os.open, path, flags, FILE_MODE)
        return SpoolFile(path, descriptor, self._threads)

    def new_path(self) -> Path:
        """An unused path in the folder of this process."""
        if self._own is None:
            raise ValueError("the spool is not open")
        return self._own / secrets.token_hex(NAME_BYTES)

    async def remove(self, path: Path) -> None:
        await self._threads.run(path.unlink, missing_ok=True)

    async def sweep(self) -> None:
        """Remove the folders of ended processes."""
        await self._threads.run(self._sweep)

    async def close(self) -> None:
        """Remove the folder of this process and its content."""
        await self._threads.run(self._close)

    def _open(self) -> None:
        make_folder(self._folder)
        while self._lock is None:
            own = self._folder / secrets.token_hex(NAME_BYTES)
            own.mkdir(mode=FOLDER_MODE)
            self._lock = _lock(own, wait=True)
            self._own = own

    def _sweep(self) -> None:
        for folder in self._folder.iterdir():
            if folder == self._own or folder.is_symlink() or not folder.is_dir():
                continue
            lock = _lock(folder, wait=False)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)

    def _close(self) -> None:
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
        self._own = self._lock = None


def _lock(folder: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock of the folder; None if another process holds it or the folder is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        # Another process may have swept it between mkdir and flock.
        if folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
    os.close(descriptor)
    return None
