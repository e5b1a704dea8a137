"""Blob store on the local disk, sharded over 256 folders."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from server.storage.blobs import Blob
from server.storage.disk.files import DiskThreads, make_folder, open_beneath, sync_file, sync_folder

# Missing, or not a regular file or folder (a link, a socket), which the server never creates.
MISSING_ERRNOS: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO})


class DiskBlob:
    def __init__(self, descriptor: int, size: int, threads: DiskThreads) -> None:
        self._descriptor = descriptor
        self._size = size
        self._threads = threads

    @property
    def size(self) -> int:
        return self._size

    async def read(self, offset: int, length: int) -> bytes:
        return await self._threads.run(os.pread, self._descriptor, length, offset)

    async def close(self) -> None:
        await self._threads.run(os.close, self._descriptor)


class DiskBlobs:
    """Blobs at `folder/ab/abcdef…`. `put` renames the file, so it must be on the same file system."""

    def __init__(self, folder: Path, threads: DiskThreads) -> None:
        self._folder = folder
        self._threads = threads

    async def prepare(self) -> None:
        await self._threads.run(make_folder, self._folder)

    async def put(self, name: str, path: Path) -> None:
        await self._threads.run(self._put, name, path)

    async def open(self, name: str) -> Blob | None:
        opened = await self._threads.run(self._open, name)
        return None if opened is None else DiskBlob(*opened, self._threads)

    async def remove(self, name: str) -> None:
        await self._threads.run((self._folder / name[:2] / name).unlink, missing_ok=True)

    def _put(self, name: str, path: Path) -> None:
        folder = self._folder / name[:2]
        make_folder(folder)
        sync_file(path)
        path.rename(folder / name)
        sync_folder(folder)

    def _open(self, name: str) -> tuple[int, int] | None:
        try:
            descriptor = open_beneath(self._folder, name[:2], name)
        except OSError as error:
            if error.errno in MISSING_ERRNOS:
                return None
            raise
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            return None
        return descriptor, status.st_size
