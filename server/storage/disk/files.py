"""Disk work off the event loop: a few threads of its own, and folders that survive a loss of power."""

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from server.errors import Unavailable

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

# A slow disk holds up at most these; nobody else uses them.
THREADS: Final = 4
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
# What says that the disk cannot take more just now, and not that we asked for something wrong.
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})


class DiskThreads:
    """Runs blocking calls one each in a thread; with one thread, in their order."""

    def __init__(self, threads: int = THREADS) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="disk")

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of the call. Raises `Unavailable` where the disk is full or failing."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*args, **kwargs))
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            log.error("the disk refuses: %s", error)
            raise Unavailable("Files cannot be kept just now") from error

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


def make_folder(folder: Path) -> None:
    """Make a folder that only the server may enter, with its name on the disk when this returns."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Put the content of a file on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_beneath(root: Path, folder: str, name: str) -> int:
    """A descriptor for reading `root/folder/name`, where neither of the two is a link. Raises `OSError`."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    parent = os.open(root / folder, flags | os.O_DIRECTORY)
    try:
        return os.open(name, flags | os.O_NONBLOCK, dir_fd=parent)
    finally:
        os.close(parent)
