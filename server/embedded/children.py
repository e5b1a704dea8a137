"""Supervises child processes: start, health checks, restart, and stop with the server."""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from server.config.sources import VARIABLE_PREFIX

READY_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.03
# A child stops within 2 s; the server must stop within 10 s. Acknowledged writes are on the disk.
TERMINATE_SECONDS: Final = 3.0
KILL_SECONDS: Final = 5.0
FIRST_BACKOFF: Final = 0.1
MAX_BACKOFF: Final = 2.0
# Consecutive ones, until the folder of a child counts as damaged.
FAILED_STARTS: Final = 2
# Between two health checks of a running child.
CHECK_SECONDS: Final = 3.0
# After so long the restart backoff is reset.
STEADY_SECONDS: Final = 10.0
LOG_BYTES: Final = 10_000_000

log = logging.getLogger(__name__)


class StartFailed(Exception):
    """The server cannot start; the text is one line with the reason."""

    @classmethod
    def of(cls, error: OSError | ValueError) -> "StartFailed":
        """With the file or folder that causes the error, and what to do about it."""
        if not isinstance(error, OSError) or error.filename is None:
            return cls(str(error))
        path = Path(os.fsdecode(error.filename))
        if isinstance(error, FileExistsError | NotADirectoryError):
            # The path may lie below the file that blocks it.
            path = next((place for place in (path, *path.parents) if place.exists()), path)
            return cls(f"{path} is a file where a folder belongs: move it away and start again")
        if isinstance(error, IsADirectoryError):
            return cls(f"{path} is a folder where a file belongs: move it away and start again")
        if isinstance(error, PermissionError):
            return cls(f"{path} may not be read or written by this user: give it to the server's user")
        return cls(f"{path}: {error.strerror}")


class EndedAtStart(StartFailed):
    """A child ended before it was ready."""


class Child:
    """One child process, e.g. a database.

    `command` is its absolute path and arguments, `is_ready` tells whether it answers (it may raise `StartFailed`),
    `is_broken` whether it must be killed and restarted. `repair` is called once if restarts fail. The child runs in its
    own session, so that Ctrl-C reaches the server only. It ends with the server if the system supports that.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        is_ready: Callable[[], Awaitable[bool]],
        *,
        lock: Path,
        log_file: Path,
        is_broken: Callable[[], Awaitable[bool]] | None = None,
        repair: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._command = list(command)
        self._is_ready = is_ready
        self._is_broken = is_broken
        self._repair = repair
        self._lock = lock
        self._log_file = log_file
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when it is ready. Raises `StartFailed` if it ends before, or is not ready in time."""
        process = self._process = await self._spawn()
        deadline = time.monotonic() + READY_SECONDS
        while not await self._is_ready():
            if process.returncode is not None:
                raise EndedAtStart(
                    f"{self.name} ended at its start (exit code {process.returncode}); see {self._log_file}"
                )
            if time.monotonic() > deadline:
                raise StartFailed(f"{self.name} does not answer after {READY_SECONDS:g} s; see {self._log_file}")
            await asyncio.sleep(POLL_SECONDS)
        self._watcher = asyncio.create_task(self._watch(process), name=f"watch {self.name}")

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after a timeout. May be called at any time."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        if self._process is not None:
            await end_process(self._process)
            self._process = None

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        backoff = FIRST_BACKOFF
        started = time.monotonic()
        failed = 0
        while True:
            code = await self._wait_for_end(process)
            if time.monotonic() - started > STEADY_SECONDS:
                backoff = FIRST_BACKOFF
            log.error("child exited child=%s exit_code=%s restart_seconds=%g", self.name, code, backoff)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, MAX_BACKOFF)
            started = time.monotonic()
            try:
                process = self._process = await self._spawn()
                if self._repair is not None:
                    failed = failed + 1 if await self._fails_to_start(process) else 0
                    if failed == FAILED_STARTS:
                        # Only once: a second repair would not help.
                        self._repair()
            except OSError as error:
                log.error("child start failed child=%s error=%s", self.name, error)

    async def _fails_to_start(self, process: asyncio.subprocess.Process) -> bool:
        """Whether it ends by itself before it is ready."""
        deadline = time.monotonic() + READY_SECONDS
        while process.returncode is None and time.monotonic() < deadline:
            if await self._is_ready():
                return False
            await asyncio.sleep(POLL_SECONDS)
        return process.returncode not in (None, -signal.SIGKILL, -signal.SIGTERM)

    async def _wait_for_end(self, process: asyncio.subprocess.Process) -> int:
        """The exit code; kills the child if it is broken."""
        while self._is_broken is not None:
            try:
                return await asyncio.wait_for(process.wait(), CHECK_SECONDS)
            except TimeoutError:
                if await self._is_broken():
                    log.error("child broken child=%s log=%s", self.name, self._log_file)
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    break
        return await process.wait()

    async def _spawn(self) -> asyncio.subprocess.Process:
        return await spawn(self._command, lock=self._lock, log_file=self._log_file)


async def spawn(
    command: Sequence[str], *, lock: Path, log_file: Path, output: int | None = None
) -> asyncio.subprocess.Process:
    """Start a program through `child_entry.py`. Its output is appended to the log file.

    `output` may be a pipe for its standard output; standard error still goes to the log file.
    """
    _rotate(log_file)
    with log_file.open("ab") as log_stream:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(Path(__file__).with_name("child_entry.py")),
            str(lock),
            str(os.getpid()),
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log_stream if output is None else output,
            stderr=log_stream,
            start_new_session=True,
            # Settings may hold secrets, so children do not inherit them.
            env={name: value for name, value in os.environ.items() if not name.upper().startswith(VARIABLE_PREFIX)},
        )


async def end_process(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, then SIGKILL after a timeout; returns when the process has ended."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), TERMINATE_SECONDS)
        except TimeoutError:
            process.kill()
    await process.wait()


async def end_orphan(name: str, lock: Path) -> None:
    """Kill the child of an earlier, hard-killed server, if there is one. Raises `StartFailed`.

    SIGKILL is safe, as acknowledged writes are on the disk; a clean stop would delay the start by seconds.
    """
    deadline = time.monotonic() + KILL_SECONDS
    is_killed = False
    while time.monotonic() < deadline:
        group = _locking_group(lock)
        if group is None:
            return
        # 0: it has the lock, but has not written its id yet.
        if group and not is_killed:
            log.warning("orphan killed child=%s process_group=%s", name, group)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            is_killed = True
        await asyncio.sleep(POLL_SECONDS)
    raise StartFailed(f"{name} of an earlier server is still running and cannot be ended; see {lock}")


def _locking_group(lock: Path) -> int | None:
    """The process group that holds the lock; 0 if it is not known yet; None if the lock is free."""
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(descriptor, 32, 0) or b"0")
    finally:
        os.close(descriptor)
    return None


def _rotate(log_file: Path) -> None:
    if log_file.exists() and log_file.stat().st_size > LOG_BYTES:
        log_file.replace(log_file.with_suffix(".old.log"))
