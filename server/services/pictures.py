"""Asks worker processes about pictures, within a time, and replaces those that die or take too long."""

import asyncio
import contextlib
import json
import os
import struct
import sys
from pathlib import Path
from typing import Final, Literal

import msgspec

from server.errors import Unavailable, UnsupportedMediaType

WORKER: Final = Path(__file__).resolve().parents[1] / "picture_worker.py"
# Two pictures at once are what two cores can do beside chatting.
WORKERS: Final = 2
# The slowest honest picture of the largest size takes about two seconds.
TIMEOUT: Final = 15.0
# A worker is replaced now and then, so that no leak of a decoder grows.
PICTURES_PER_WORKER: Final = 500


class Picture(msgspec.Struct, frozen=True):
    """Size in pixels as it is seen. `thumbnail` is the extension of the small picture that was written."""

    format: Literal["PNG", "JPEG", "WEBP", "GIF"]
    width: int
    height: int
    thumbnail: str


class Refusal(msgspec.Struct, frozen=True):
    """Why it is no picture to be shown."""

    refused: str


class Worker:
    """One process. After any failure it is dead and of no more use."""

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
            # The server's settings may hold secrets, and are no business of a process that reads strangers' files.
            env={name: value for name, value in os.environ.items() if not name.upper().startswith("MADANG_")},
        )
        return cls(process)

    @property
    def is_usable(self) -> bool:
        return self._process.returncode is None and self._left > 0

    async def ask(self, request: dict[str, str]) -> Picture | Refusal:
        """Raises `OSError` or `EOFError` where the process dies of the question."""
        self._left -= 1
        source, target = self._process.stdout, self._process.stdin
        if source is None or target is None:
            raise EOFError
        data = json.dumps(request).encode()
        target.write(struct.pack(">I", len(data)) + data)
        await target.drain()
        (length,) = struct.unpack(">I", await source.readexactly(4))
        answer = await source.readexactly(length)
        if b'"refused"' in answer:
            return msgspec.json.decode(answer, type=Refusal)
        return msgspec.json.decode(answer, type=Picture)

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Pictures:
    """At most `WORKERS` processes, each started when it is first needed."""

    def __init__(self) -> None:
        self._idle: asyncio.Queue[Worker | None] = asyncio.Queue()
        self._workers: set[Worker] = set()
        for _ in range(WORKERS):
            self._idle.put_nowait(None)

    async def examine(self, path: Path, thumbnail: Path) -> Picture:
        """What the picture in a file is; a small one without metadata is written to the path `thumbnail`.

        Raises `UnsupportedMediaType` for anything that is no picture, too large or damaged.
        """
        request = {"path": str(path), "thumbnail": str(thumbnail)}
        answer = await self._ask(request)
        if answer is None:
            # A worker may have died by no fault of this picture; a new one does not.
            answer = await self._ask(request, anew=True)
        if answer is None:
            raise UnsupportedMediaType("The picture could not be read within the limits of memory")
        if isinstance(answer, Refusal):
            raise UnsupportedMediaType(f"The upload is refused: {answer.refused}")
        return answer

    async def close(self) -> None:
        await asyncio.gather(*(self._end(worker) for worker in list(self._workers)))

    async def _ask(self, request: dict[str, str], *, anew: bool = False) -> Picture | Refusal | None:
        """The answer of a worker; None where it died. Whoever leaves early takes its worker with it."""
        worker = await self._take(anew)
        is_well = False
        try:
            answer = await asyncio.wait_for(worker.ask(request), TIMEOUT)
            is_well = True
            return answer
        except TimeoutError:
            return Refusal("looking at the picture takes too long")
        except (EOFError, OSError):
            return None
        finally:
            self._idle.put_nowait(worker if is_well else None)
            if not is_well:
                await self._end(worker)

    async def _take(self, anew: bool) -> Worker:
        """A worker that lives, or a new one; whoever takes it puts it back, or None in its place."""
        worker = await self._idle.get()
        if worker is not None and worker.is_usable and not anew:
            return worker
        try:
            await self._end(worker)
            worker = await Worker.start()
        except BaseException as error:
            self._idle.put_nowait(None)
            if isinstance(error, OSError):
                raise Unavailable("Pictures cannot be looked at just now") from error
            raise
        self._workers.add(worker)
        return worker

    async def _end(self, worker: Worker | None) -> None:
        if worker is not None:
            self._workers.discard(worker)
            await worker.end()
