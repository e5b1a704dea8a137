"""The embedded MongoDB: SecantusDB on a free loopback port, with a password generated at the first start."""

import asyncio
import errno
import os
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Final, Literal

import pymongo
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from server.config.secret_files import read_or_make_secret
from server.embedded.children import Child, StartFailed, end_orphan

NAME: Final = "mongodb"
USER: Final = "madang"
PING_TIMEOUT_MS: Final = 1000
INTERNAL_ERROR: Final = 1
AUTHENTICATION_FAILED: Final = 18
# Another process may take the free port before the child listens on it.
PORT_TRIES: Final = 3
# It holds the error with which the child ended, and none of an earlier start.
LOG_TAIL_BYTES: Final = 300
# If one of these is missing, the engine initializes the folder as a new one.
NEEDED_FILES: Final = ("WiredTiger", "WiredTiger.turtle", "WiredTiger.wt")
RECOVERY_HINT: Final = (
    "make room if its disk is full; if its files are damaged, restore data_dir from a backup, or move {folder} away to "
    "begin with an empty database"
)


async def start_mongodb(data: Path, children: list[Child]) -> str:
    """Start it inside `data`, add it to `children`, and return its address once it answers. Raises `StartFailed`."""
    lock, log_file, folder = data / "run" / NAME, data / "log" / f"{NAME}.log", data / NAME
    await end_orphan(NAME, lock)
    password_file = data / "mongodb_password"
    password = read_or_make_secret(password_file)
    check_files(folder)
    # Named explicitly, so that the default file of the machine is not read.
    options = data / "run" / "secantusd.toml"
    options.touch(0o600)
    for tries_left in reversed(range(PORT_TRIES)):
        port = _free_port()
        location = f"{USER}:{password}@127.0.0.1:{port}/"
        address = f"mongodb://{location}?authSource=admin&directConnection=true&retryWrites=false"
        child = Child(
            NAME,
            _command(password_file, options, port, folder),
            partial(_answers, address, port, log_file),
            lock=lock,
            log_file=log_file,
            is_broken=partial(_is_broken, address, port),
        )
        children.append(child)
        try:
            await child.start()
        except StartFailed as error:
            await child.stop()
            children.remove(child)
            # The child has stopped: a taken port belongs to another process.
            if not tries_left or not (_is_taken(port) or _was_taken(log_file)):
                raise StartFailed(f"{error}; {RECOVERY_HINT.format(folder=folder)}") from None
        else:
            break
    return address


def check_files(folder: Path) -> None:
    """Raise `StartFailed` if files are missing, as the engine would overwrite the rest with an empty database."""
    if _user_marker(folder).exists():
        missing = [name for name in NEEDED_FILES if not (folder / name).is_file()]
        if missing:
            raise StartFailed(f"{folder} has no {' and no '.join(missing)}; {RECOVERY_HINT.format(folder=folder)}")


def check_uri(uri: str) -> None:
    """Raises `StartFailed` if the driver cannot parse the address."""
    try:
        # Parsing an SRV address needs DNS; that is left to the connection.
        if not uri.startswith("mongodb+srv://"):
            parse_uri(uri)
    except (PyMongoError, ValueError) as error:
        raise StartFailed(f"mongodb.uri is no address: {error}") from None


def _command(password_file: Path, options: Path, port: int, folder: Path) -> list[str]:
    script = [sys.executable, "-P", str(Path(__file__).with_name("mongodb_serve.py")), USER, str(password_file)]
    arguments = f"--host 127.0.0.1 --port {port} --sync-on-commit --standalone --auth --log-level WARNING".split()
    return [*script, "--config", str(options), "--storage-path", str(folder), *arguments]


def _user_marker(folder: Path) -> Path:
    """Written by `mongodb_serve.py` once the folder has a user."""
    return folder / "madang-user"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _was_taken(log_file: Path) -> bool:
    """Whether the child ended because of its port. A connection to elsewhere holds one too, and answers nobody."""
    with log_file.open("rb") as file:
        file.seek(max(0, log_file.stat().st_size - LOG_TAIL_BYTES))
        return os.strerror(errno.EADDRINUSE).encode() in file.read()


async def _answers(address: str, port: int, log_file: Path) -> bool:
    # Checked first, because the driver waits half a second after a refused connection.
    found = await asyncio.to_thread(_probe, address) if _is_taken(port) else "silent"
    if found == "broken":
        raise StartFailed(f"{NAME} cannot read or write what it keeps; see {log_file}")
    return found == "ok"


async def _is_broken(address: str, port: int) -> bool:
    return _is_taken(port) and await asyncio.to_thread(_probe, address) == "broken"


def _probe(address: str) -> Literal["ok", "broken", "silent"]:
    """Probe with a read: after a failed write (a full disk) the store still answers pings, but nothing else.

    A failed login means broken too: the user is part of the data, so the store has lost it.
    """
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(
        address,
        serverSelectionTimeoutMS=PING_TIMEOUT_MS,
        connectTimeoutMS=PING_TIMEOUT_MS,
        socketTimeoutMS=PING_TIMEOUT_MS,
    )
    try:
        client.admin.probe.find_one({"_id": ""})
    except OperationFailure as error:
        return "broken" if error.code in (INTERNAL_ERROR, AUTHENTICATION_FAILED) else "silent"
    except PyMongoError:
        return "silent"
    finally:
        client.close()
    return "ok"
