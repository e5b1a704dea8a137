"""The server under torture and its two children: kill, stop, start again, and know when all is well."""

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path

from redis.asyncio import Redis
from tornado.httpclient import AsyncHTTPClient

from tests.support.ports import free_port
from tests.support.server_process import ServerProcess

HEAL_DEADLINE = 60.0
LOOK_PAUSE = 0.03


class ServerControl:
    """One server on its data folder. Processes are found by the folder alone: nobody else's can be hit."""

    def __init__(self, process: ServerProcess) -> None:
        self.process = process
        # The same port for its whole life, as clients know it.
        self.port = free_port()
        process.settings["server.port"] = self.port
        self.is_dead = True
        self.tell_death: Callable[[], None] = lambda: None

    async def start(self) -> None:
        await asyncio.to_thread(self.process.start)
        self.is_dead = False

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self._note_death()

    async def stop(self) -> None:
        """By SIGTERM; fails where the exit code is not 0."""
        await asyncio.to_thread(self.process.stop)
        self.is_dead = True

    async def wait_dead(self, deadline: float) -> bool:
        """Whether it ended by itself in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                while self.process.is_running:
                    await asyncio.sleep(LOOK_PAUSE)
        if self.process.is_running:
            return False
        self._note_death()
        return True

    def child(self, name: str) -> int:
        """The process id of `mongodb` or `redis`. Raises `ProcessLookupError` where there is none just now."""
        try:
            with (self.process.data_dir / "run" / name).open("r+") as lock:
                pid = int(lock.read())
                # The child holds the lock as long as it lives: the number is not somebody else's by now.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return pid
        except (OSError, ValueError) as error:
            raise ProcessLookupError(name) from error
        raise ProcessLookupError(name)

    def signal_child(self, name: str, number: signal.Signals) -> None:
        """Send a signal to the child and all that it started."""
        os.killpg(self.child(name), number)

    async def wait_well(self) -> None:
        """Return when the server says that it and both stores answer."""
        client = AsyncHTTPClient()
        async with asyncio.timeout(HEAL_DEADLINE):
            while True:
                with contextlib.suppress(Exception):
                    answer = await client.fetch(f"{self.process.url}/readyz", raise_error=False, request_timeout=2)
                    if answer.code == 200:
                        return
                await asyncio.sleep(LOOK_PAUSE)

    def end_all(self) -> None:
        """End the server and whatever child of it has not ended with it, by `kill -9`."""
        self.kill()
        for name in ("mongodb", "redis"):
            with contextlib.suppress(ProcessLookupError):
                self.signal_child(name, signal.SIGKILL)

    def _note_death(self) -> None:
        self.is_dead = True
        self.tell_death()


def embedded_redis(data_dir: Path) -> "Redis":
    link = data_dir / "run" / "socket_folder"
    folder = link.readlink() if link.is_symlink() else data_dir / "redis"
    password = (data_dir / "redis_password").read_text().strip()
    return Redis(unix_socket_path=str(folder / "redis.sock"), password=password)
