"""Pool of worker processes that examine pictures; replaces workers that die or take too long."""

import asyncio
import contextlib
import json
import os
import signal
import struct
import sys
from pathlib import Path
from typing import Final, Literal

import msgspec

from server.concurrency.fair_queue import FairQueue
from server.errors import Unavailable, UnsupportedMediaType
from server.services.uploads.image_budget import ImageBudget

WORKER: Final = Path(__file__).resolve().with_name("image_worker.py")
# All that Python and Pillow need: the encoding of file names and the paths of libraries. The rest may hold secrets,
# which a process that parses untrusted files must not have.
ENVIRONMENT: Final = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
# As many as two cores can do beside the message traffic.
WORKERS: Final = 2
# Wall-clock seconds. The worker ends itself after six seconds of CPU time, which take longer on a busy machine.
TIMEOUT: Final = 15.0
# For a worker that has closed its pipe, until it has exited.
EXIT_SECONDS: Final = 1.0
# Typical for one picture: photographs take less, drawings of many pixels more.
EXAMINE_SECONDS: Final = 0.25
# An album that is sent at once.
MAX_WAITING_PER_USER: Final = 200
# Each waits as a file on disk with an open request.
MAX_WAITING: Final = 2_000
# Then a worker is replaced, which bounds memory leaks of decoders.
PICTURES_PER_WORKER: Final = 500


class Image(msgspec.Struct, frozen=True):
    """The size is in pixels, with the orientation applied. `thumbnail` is the extension of the thumbnail written."""

    format: Literal["PNG", "JPEG", "WEBP", "GIF"]
    width: int
    height: int
    thumbnail: str


class Answer(msgspec.Struct, frozen=True):
    """A worker's answer: the picture, or why it was refused; and the CPU time."""

    seconds: float
    picture: Image | None = None
    refused: str = ""
    is_too_slow: bool = False


TOO_SLOW: Final = Answer(TIMEOUT, refused="looking at the picture takes too long", is_too_slow=True)


class Worker:
    """One process. It is unusable after any failure."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._left = PICTURES_PER_WORKER

    @classmethod
    async def start(cls) -> "Worker":
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(WORKER),
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        )
        return cls(process)

    @property
    def is_usable(self) -> bool:
        return self._process.returncode is None and self._left > 0

    async def ask(self, request: dict[str, str]) -> Answer:
        """Raises `OSError` or `EOFError` if the process dies."""
        self._left -= 1
        source, target = self._process.stdout, self._process.stdin
        if source is None or target is None:
            raise EOFError
        data = json.dumps(request).encode()
        target.write(struct.pack(">I", len(data)) + data)
        await target.drain()
        (length,) = struct.unpack(">I", await source.readexactly(4))
        return msgspec.json.decode(await source.readexactly(length), type=Answer)

    async def wait(self) -> int:
        """The exit status, as `Popen.returncode`, of a process that has closed its pipe; kills it if it lingers."""
        try:
            # `Popen.kill` polls: it can take the status of an exiting process before asyncio does.
            return await asyncio.wait_for(self._process.wait(), EXIT_SECONDS)
        except TimeoutError:
            return await self.end()

    async def end(self) -> int:
        """Kill the process if it is still alive. Returns its exit status."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        return await self._process.wait()


class ImageWorkers:
    """At most `WORKERS` processes, each started on demand; users are served in rotation."""

    def __init__(self, *, is_limited: bool) -> None:
        """If `is_limited`, too many pictures of one user are refused. Too many in all always are."""
        self._budget = ImageBudget(is_limited=is_limited)
        self._queue = FairQueue(
            WORKERS,
            most_per_key=MAX_WAITING_PER_USER if is_limited else None,
            most_waiting=MAX_WAITING,
            seconds=EXAMINE_SECONDS,
            is_last=self._budget.is_slow,
        )
        self._idle: list[Worker] = []
        self._workers: set[Worker] = set()

    async def examine(self, user_id: str, path: Path, thumbnail: Path) -> Image:
        """What the picture in a file is. Writes a thumbnail without metadata to the path `thumbnail`.

        Raises `UnsupportedMediaType` for anything that is no picture, too large, too slow or damaged; `RateLimited` if
        too many pictures of this user wait or their CPU budget is used up; `Unavailable` if too many wait in all.
        """
        self._budget.check(user_id)
        request = {"path": str(path), "thumbnail": str(thumbnail)}
        async with self._queue.take(user_id):
            # Pictures of the same user may have used it up in the meantime.
            self._budget.check(user_id)
            answer = await self._ask(await self._take(), request)
            if answer is None:
                # The worker may have died for another reason: retry once with a new one.
                answer = await self._ask(await self._start(), request)
            if answer is None:
                raise UnsupportedMediaType("The picture could not be read within the limits of memory")
            self._budget.spend(user_id, answer.seconds)
            if answer.is_too_slow:
                self._budget.note_slow(user_id)
        if answer.picture is None:
            raise UnsupportedMediaType(f"The upload is refused: {answer.refused}")
        return answer.picture

    async def close(self) -> None:
        await asyncio.gather(*(self._end(worker) for worker in list(self._workers)))

    async def _ask(self, worker: Worker, request: dict[str, str]) -> Answer | None:
        """The answer of a worker; None if it died. A cancelled call ends its worker."""
        try:
            answer = await asyncio.wait_for(worker.ask(request), TIMEOUT)
        except TimeoutError:
            await self._end(worker)
            return TOO_SLOW
        except (EOFError, OSError):
            self._workers.discard(worker)
            return TOO_SLOW if await worker.wait() == -signal.SIGPROF else None
        except BaseException:
            await self._end(worker)
            raise
        self._idle.append(worker)
        return answer

    async def _take(self) -> Worker:
        """An idle worker that is alive, or a new one."""
        while self._idle:
            worker = self._idle.pop()
            if worker.is_usable:
                return worker
            await self._end(worker)
        return await self._start()

    async def _start(self) -> Worker:
        try:
            worker = await Worker.start()
        except OSError as error:
            raise Unavailable("Pictures cannot be looked at just now") from error
        self._workers.add(worker)
        return worker

    async def _end(self, worker: Worker) -> int:
        self._workers.discard(worker)
        return await worker.end()
