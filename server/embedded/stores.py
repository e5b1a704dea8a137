"""Locks `data_dir` and runs the embedded stores inside it."""

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec

from server.config.settings import Redis, Settings
from server.embedded.children import Child, StartFailed
from server.embedded.mongodb import check_uri, start_mongodb
from server.embedded.redis import check_url, remove_socket_folder, start_redis

EMBEDDED: Final = "embedded"
FOLDERS: Final = ("mongodb", "redis", "log", "run")


class Addresses(msgspec.Struct, frozen=True):
    """Connection strings of the stores. Both hold passwords: never log them."""

    mongodb_uri: str
    redis_url: str


class EmbeddedStores:
    """Owns `data_dir` and the children in it.

    Addresses do not change during a run: a child that dies is restarted at the same address, and clients reconnect.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._data: Path | None = None
        self._lock: int | None = None

    async def start(self, settings: Settings) -> Addresses:
        """Lock `data_dir`, start the embedded stores concurrently, and return when they are ready.

        Call it from the main thread: a child ends when the thread that started it ends.
        Raises `StartFailed` if another server uses `data_dir`, or a child does not start.
        """
        try:
            data = self.take(settings)
            async with asyncio.TaskGroup() as group:
                mongodb = group.create_task(self._mongodb(data, settings.mongodb.uri))
                redis = group.create_task(self._redis(data, settings.redis))
            return Addresses(mongodb.result(), redis.result())
        except BaseException as error:
            await self.stop()
            cause = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
            if isinstance(cause, OSError | ValueError):
                raise StartFailed.of(cause) from error
            raise cause from None

    async def start_mongodb(self, settings: Settings) -> str:
        """As `start`, for the database alone; returns its address."""
        try:
            return await self._mongodb(self.take(settings), settings.mongodb.uri)
        except (OSError, ValueError) as error:
            raise StartFailed.of(error) from error

    async def stop(self) -> None:
        """Stop the children and unlock `data_dir`. Idempotent, also after a failed start."""
        await asyncio.gather(*(child.stop() for child in self._children))
        if self._children and self._data is not None:
            remove_socket_folder(self._data)
        self._children.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def take(self, settings: Settings) -> Path:
        """Create and lock `data_dir` without starting anything; `stop` unlocks it.

        The lock is shared if all stores are external (the folder holds uploads and secrets), and exclusive otherwise.
        Raises `StartFailed` if another server uses it, or if it is not a writable folder.
        """
        data = self._data = Path(settings.data_dir).absolute()
        try:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = self._lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except (FileExistsError, NotADirectoryError):
            raise StartFailed(f"data_dir: {data} is not a folder, or lies below a file") from None
        except OSError as error:
            raise StartFailed(f"data_dir: {error.filename} cannot be written: {error.strerror}") from None
        embedded = EMBEDDED in (settings.mongodb.uri, settings.redis.url)
        try:
            fcntl.flock(lock, (fcntl.LOCK_EX if embedded else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartFailed(f"{data} is in use by another server; set another data_dir or stop that one") from None
        for name in FOLDERS if embedded else ():
            (data / name).mkdir(mode=0o700, exist_ok=True)
        return data

    async def _mongodb(self, data: Path, uri: str) -> str:
        if uri == EMBEDDED:
            return await start_mongodb(data, self._children)
        check_uri(uri)
        return uri

    async def _redis(self, data: Path, settings: Redis) -> str:
        if settings.url == EMBEDDED:
            return await start_redis(data, self._children, settings.max_memory)
        check_url(settings.url)
        return settings.url
