"""Files while they arrive: in a folder of this process, which is emptied by others once the process is dead."""

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
    """One file that arrives. Nothing of it has a name that anybody could ask for."""

    def __init__(self, path: Path, descriptor: int, threads: DiskThreads) -> None:
        self.path = path
        self._descriptor: int | None = descriptor
        self._threads = threads

    async def write(self, data: bytes) -> None:
        """Add to the end. The waiting is what slows the sender down to the speed of the disk."""
        await self._threads.run(self._write, data)

    async def finish(self) -> None:
        """Nothing more comes; it may be read by its path now."""
        await self._threads.run(self._close)

    async def discard(self) -> None:
        """Close and remove it; nothing happens where it has gone already."""
        await self._threads.run(self._discard)

    def _write(self, data: bytes) -> None:
        if self._descriptor is None:
            raise ValueError("the file is finished")
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _discard(self) -> None:
        self._close()
        self.path.unlink(missing_ok=True)


class Spool:
    """`folder/<random>/`, locked for as long as this process lives: what is unlocked, a killed process left."""

    def __init__(self, folder: Path, threads: DiskThreads) -> None:
        self._folder = folder
        self._threads = threads
        self._own: Path | None = None
        self._lock: int | None = None

    async def open(self) -> None:
        """Make the folder of this process and remove those of dead ones."""
        await self._threads.run(self._open)
        await self.sweep()

    async def create(self) -> SpoolFile:
        """A new, empty file."""
        path = self.new_path()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = await self._threads.run(os.open, path, flags, FILE_MODE)
        return SpoolFile(path, descriptor, self._threads)

    def new_path(self) -> Path:
        """A free path in this folder, which is removed together with it."""
        if self._own is None:
            raise ValueError("the spool is not open")
        return self._own / secrets.token_hex(NAME_BYTES)

    async def remove(self, path: Path) -> None:
        await self._threads.run(path.unlink, missing_ok=True)

    async def sweep(self) -> None:
        """Remove what dead processes left."""
        await self._threads.run(self._sweep)

    async def close(self) -> None:
        """Remove the own folder with all that is in it."""
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
    """A descriptor that holds the lock of the folder; None where somebody else has it or the folder has gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        # Between its making and the lock, a sweep of another process may have removed it.
        if folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
    os.close(descriptor)
    return None
