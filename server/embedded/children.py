"""A child process that is started, watched, restarted when it dies, and ended with the server."""

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
PROBE_SECONDS: Final = 0.03
# To end by itself takes it two at most. What it has acknowledged is on the disk, and a server must end within ten.
TERMINATE_SECONDS: Final = 3.0
KILL_SECONDS: Final = 5.0
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0
# In a row, until a child's folder counts as damaged.
FAILED_STARTS: Final = 2
# Between two looks at whether a child that lives is still of use.
CHECK_SECONDS: Final = 3.0
# A child that ran this long was well: the next restart is quick again.
STEADY_SECONDS: Final = 10.0
LOG_BYTES: Final = 10_000_000

log = logging.getLogger(__name__)


class StartFailed(Exception):
    """The server cannot start; the text says why in one line."""

    @classmethod
    def of(cls, error: OSError | ValueError) -> "StartFailed":
        """Names the file or folder that is in the way, and what to do about it."""
        if not isinstance(error, OSError) or error.filename is None:
            return cls(str(error))
        path = Path(os.fsdecode(error.filename))
        if isinstance(error, FileExistsError | NotADirectoryError):
            # What was asked for may lie below what is in the way.
            path = next((place for place in (path, *path.parents) if place.exists()), path)
            return cls(f"{path} is a file where a folder belongs: move it away and start again")
        if isinstance(error, IsADirectoryError):
            return cls(f"{path} is a folder where a file belongs: move it away and start again")
        if isinstance(error, PermissionError):
            return cls(f"{path} may not be read or written by this user: give it to the server's user")
        return cls(f"{path}: {error.strerror}")


class EndedAtStart(StartFailed):
    """A child ended before it answered."""


class Child:
    """One program of the server's own, e.g. a database.

    `command` is its absolute path and arguments, `is_ready` tells whether it answers (it may raise `StartFailed`),
    `is_broken` whether it will never work again: then it is killed and restarted. `repair` is called once where
    restarts fail. It always runs in a session of its own, so
    that Ctrl-C reaches the server only, and dies with the server where the system can do that.
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
        """Returns when it answers. Raises `StartFailed` when it ends before, or does not answer in time."""
        process = self._process = await self._spawn()
        deadline = time.monotonic() + READY_SECONDS
        while not await self._is_ready():
            if process.returncode is not None:
                raise EndedAtStart(
                    f"{self.name} ended at its start (exit code {process.returncode}); see {self._log_file}"
                )
            if time.monotonic() > deadline:
                raise StartFailed(f"{self.name} does not answer after {READY_SECONDS:g} s; see {self._log_file}")
            await asyncio.sleep(PROBE_SECONDS)
        self._watcher = asyncio.create_task(self._watch(process), name=f"watch {self.name}")

    async def stop(self) -> None:
        """Ends it: asked first, killed when it takes too long. Safe to call at any time."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        if self._process is not None:
            await end_process(self._process)
            self._process = None

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        pause = FIRST_PAUSE
        started = time.monotonic()
        failed = 0
        while True:
            code = await self._wait_for_end(process)
            if time.monotonic() - started > STEADY_SECONDS:
                pause = FIRST_PAUSE
            log.error("%s ended (exit code %s); starting it again in %g s", self.name, code, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            started = time.monotonic()
            try:
                process = self._process = await self._spawn()
                if self._repair is not None:
                    failed = failed + 1 if await self._fails_to_start(process) else 0
                    if failed == FAILED_STARTS:
                        # Not again and again: that would help no more than the first time.
                        self._repair()
            except OSError as error:
                log.error("%s cannot be started: %s", self.name, error)

    async def _fails_to_start(self, process: asyncio.subprocess.Process) -> bool:
        """Whether it ends by itself before it answers."""
        deadline = time.monotonic() + READY_SECONDS
        while process.returncode is None and time.monotonic() < deadline:
            if await self._is_ready():
                return False
            await asyncio.sleep(PROBE_SECONDS)
        return process.returncode not in (None, -signal.SIGKILL, -signal.SIGTERM)

    async def _wait_for_end(self, process: asyncio.subprocess.Process) -> int:
        """The exit code; a child that is broken is ended here."""
        while self._is_broken is not None:
            try:
                return await asyncio.wait_for(process.wait(), CHECK_SECONDS)
            except TimeoutError:
                if await self._is_broken():
                    log.error("%s is broken; see %s", self.name, self._log_file)
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    break
        return await process.wait()

    async def _spawn(self) -> asyncio.subprocess.Process:
        return await spawn(self._command, lock=self._lock, log_file=self._log_file)


async def spawn(
    command: Sequence[str], *, lock: Path, log_file: Path, output: int | None = None
) -> asyncio.subprocess.Process:
    """Start a program as `child_entry.py` describes. What it says is added to the log file.

    `output` may be a pipe for its standard output alone.
    """
    _rotate(log_file)
    with log_file.open("ab") as sayings:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(Path(__file__).with_name("child_entry.py")),
            str(lock),
            str(os.getpid()),
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sayings if output is None else output,
            stderr=sayings,
            start_new_session=True,
            # The server's settings may hold secrets, and are no business of its children.
            env={name: value for name, value in os.environ.items() if not name.upper().startswith(VARIABLE_PREFIX)},
        )


async def end_process(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, then SIGKILL when that takes too long; returns when it is gone."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), TERMINATE_SECONDS)
        except TimeoutError:
            process.kill()
    await process.wait()


async def end_orphan(name: str, lock: Path) -> None:
    """End the child that an earlier, hard-killed server left behind, if there is one. Raises `StartFailed`.

    At once: nobody is served by it any more, and what it has acknowledged is on the disk. To end by itself would take
    it seconds in which nobody is served by us.
    """
    deadline = time.monotonic() + KILL_SECONDS
    asked = False
    while time.monotonic() < deadline:
        group = _locking_group(lock)
        if group is None:
            return
        # Zero: it has the lock, but has not yet written its id.
        if group and not asked:
            log.warning("ending %s of an earlier server (process group %s)", name, group)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            asked = True
        await asyncio.sleep(PROBE_SECONDS)
    raise StartFailed(f"{name} of an earlier server is still running and cannot be ended; see {lock}")


def _locking_group(lock: Path) -> int | None:
    """The process group that holds the lock; 0 when it is not known yet; None when nobody holds it."""
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
