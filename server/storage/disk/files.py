"""Disk calls off the event loop, in dedicated threads, and helpers for durable files and folders."""

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

# Dedicated threads: a slow disk blocks nothing else.
THREADS: Final = 4
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
# The disk is full or failing, as opposed to a wrong call.
UNAVAILABLE_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})


class DiskThreads:
    """Runs blocking calls in a thread pool; with one thread, in call order."""

    def __init__(self, threads: int = THREADS) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="disk")

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of the call. Raises `Unavailable` if the disk is full or failing."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: work(*args, **kwargs))
        except OSError as error:
            if error.errno not in UNAVAILABLE_ERRNOS:
                raise
            log.error("disk unavailable error=%s", error)
            raise Unavailable("Files cannot be kept just now") from error

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, with mode 0700. Its entry is synced when this returns."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Sync the entries of a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Sync the content of a file to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_beneath(root: Path, folder: str, name: str) -> int:
    """Open `root/folder/name` for reading. Raises `OSError`, also if `folder` or `name` is a link."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    parent = os.open(root / folder, flags | os.O_DIRECTORY)
    try:
        return os.open(name, flags | os.O_NONBLOCK, dir_fd=parent)
    finally:
        os.close(parent)
