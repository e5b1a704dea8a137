"""Behaviour in trouble, measured: what people see while a store is away or the server is told to stop.

`python -m tests.torture.trouble` prints one line for each promise with the measured value and its bound.
"""

import asyncio
import contextlib
import itertools
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.people import Person, Town
from tests.support.rest import MESSAGES
from tests.support.server_process import ServerProcess
from tests.torture.campaign import SETTINGS
from tests.torture.chat_socket import ChatSocket, Lost
from tests.torture.outside import OutsideStores
from tests.torture.server_control import ServerControl

PAIRS = 10
SEND_PAUSE = 0.05
SLICE_SECONDS = 5.0
SLICES = 7
OUTAGE_SECONDS = 8.0
REFUSED_WITHIN = 5.0
BACK_WITHIN = 10.0
STOPPED_WITHIN = 10.0
RATIO = 1.2
ANSWER_DEADLINE = 20.0
BODIES = itertools.count(1)


class Answered(NamedTuple):
    """One send: when it began, how long its answer took, and what that said ("" is success, `lost` none)."""

    began: float
    seconds: float
    code: str
    body: str


class Crowd:
    """Pairs of connected people; one of each pair writes at a steady pace, and everything heard is counted."""

    def __init__(self, url: str) -> None:
        self._town = Town(url)
        self._url = url
        self.people: list[tuple[Person, Person, str]] = []
        self.answers: list[Answered] = []
        self.heard: set[str] = set()
        self._sockets: list[ChatSocket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._pending: set[asyncio.Task[None]] = set()

    async def gather(self) -> None:
        for _ in range(PAIRS):
            writer, reader, room_id = await self._town.pair()
            self.people.append((writer, reader, room_id))
            socket = await ChatSocket.open(self._url, writer.access_token, lambda *_: None, acks=True)
            listener = await ChatSocket.open(self._url, reader.access_token, self._hear, acks=True)
            self._sockets += [socket, listener]
            self._tasks.append(asyncio.create_task(self._write(socket, room_id)))

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._pending:
            await asyncio.wait(self._pending)
        for socket in self._sockets:
            socket.cut()
        await self._town.close()

    def between(self, begin: float, end: float) -> list[Answered]:
        return [answer for answer in self.answers if begin <= answer.began < end]

    def _hear(self, event: str, data: Any) -> None:
        if event == "message:new":
            self.heard.add(data["content"])

    async def _write(self, socket: ChatSocket, room_id: str) -> None:
        while not socket.ended.is_set():
            await asyncio.sleep(SEND_PAUSE)
            task = asyncio.create_task(self._send(socket, room_id, f"body {next(BODIES)}"))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    async def _send(self, socket: ChatSocket, room_id: str, body: str) -> None:
        began = time.monotonic()
        try:
            answer = await socket.call("message:send", {"roomId": room_id, "content": body}, ANSWER_DEADLINE)
            code = "" if answer["ok"] else answer["error"]["code"]
        except Lost:
            code = "lost"
        self.answers.append(Answered(began, time.monotonic() - began, code, body))


class Report:
    """Lines for people, and whether every bound was kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.is_good = True

    def add(self, what: str, value: str, bound: str, is_kept: bool) -> None:
        self.lines.append(f"{'ok  ' if is_kept else 'MISS'} {what}: {value} (bound: {bound})")
        self.is_good &= is_kept


def percentile(answers: list[Answered], share: float) -> float:
    seconds = sorted(answer.seconds for answer in answers if not answer.code)
    return seconds[min(len(seconds) - 1, int(len(seconds) * share))] if seconds else float("inf")


async def measure_redis_away(crowd: Crowd, stores: OutsideStores, report: Report, manner: str) -> None:
    """Slices with and without Redis in turn, and the median of their ratios: a slow moment is one pair's."""
    away: list[Answered] = []
    ratios, shown = [], []
    for _ in range(SLICES):
        begin = time.monotonic()
        await asyncio.sleep(SLICE_SECONDS)
        middle = time.monotonic()
        getattr(stores.redis, manner)()
        await asyncio.sleep(SLICE_SECONDS)
        end = time.monotonic()
        stores.redis.heal()
        await asyncio.sleep(1)
        with_redis, without = (
            percentile(crowd.between(begin, middle), 0.99),
            percentile(crowd.between(middle, end), 0.99),
        )
        ratios.append(without / with_redis)
        shown.append(f"{without * 1000:.0f}/{with_redis * 1000:.0f}")
        away += crowd.between(middle, end)
    ratio = statistics.median(ratios)
    report.add(
        f"Redis away ({manner}): ack p99 against normal, {len(away)} sends",
        f"{ratio:.2f} (median of the pairs {', '.join(shown)} ms)",
        f"{RATIO}",
        ratio <= RATIO,
    )
    failed = sum(bool(answer.code) for answer in away)
    unheard = sum(answer.body not in crowd.heard for answer in away if not answer.code)
    report.add(f"Redis away ({manner}): sends that failed", str(failed), "0", failed == 0)
    report.add(f"Redis away ({manner}): acknowledged but not heard live", str(unheard), "0", unheard == 0)


async def measure_mongodb_away(crowd: Crowd, stores: OutsideStores, report: Report, manner: str) -> None:
    begin = time.monotonic()
    getattr(stores.mongodb, manner)()
    reads = []
    while time.monotonic() < begin + OUTAGE_SECONDS:
        writer, _, room_id = crowd.people[0]
        asked = time.monotonic()
        answer = await writer.get(f"{MESSAGES}/chats/{room_id}/messages")
        reads.append((time.monotonic() - asked, answer.status))
        await asyncio.sleep(0.2)
    healed = time.monotonic()
    stores.mongodb.heal()
    back = await first_success(crowd, healed)
    sends = crowd.between(begin + 0.2, healed - REFUSED_WITHIN)
    slowest = max((answer.seconds for answer in crowd.between(begin, healed)), default=0.0)
    others = {answer.code for answer in sends} - {"UNAVAILABLE"}
    report.add(
        f"MongoDB away ({manner}): slowest answer to a send", f"{slowest:.2f} s", "5 s", slowest <= REFUSED_WITHIN
    )
    report.add(
        f"MongoDB away ({manner}): answers of {len(sends)} sends",
        f"{others or 'all UNAVAILABLE'}",
        "UNAVAILABLE",
        not others,
    )
    statuses = {status for _, status in reads}
    slowest_read = max(seconds for seconds, _ in reads)
    report.add(
        f"MongoDB away ({manner}): reads",
        f"{statuses}, slowest {slowest_read:.2f} s",
        "503 in 5 s",
        statuses <= {503, 200} and slowest_read <= REFUSED_WITHIN,
    )
    report.add(f"MongoDB back ({manner}): first acknowledgement after", f"{back:.2f} s", "10 s", back <= BACK_WITHIN)


async def first_success(crowd: Crowd, since: float) -> float:
    async with asyncio.timeout(60):
        while True:
            done = [
                answer.began + answer.seconds for answer in crowd.answers if not answer.code and answer.began > since
            ]
            if done:
                return min(done) - since
            await asyncio.sleep(0.02)


async def measure_stop(crowd: Crowd, server: ServerControl, report: Report) -> None:
    """SIGTERM under load: the exit, and everything acknowledged is in the history afterwards."""
    process = server.process
    began = time.monotonic()
    stopping = asyncio.create_task(asyncio.to_thread(process.stop))
    error = ""
    try:
        await stopping
    except AssertionError as failure:
        error = str(failure)
    took = time.monotonic() - began
    report.add(
        "SIGTERM under load: exit 0", error or f"after {took:.1f} s", "10 s", not error and took <= STOPPED_WITHIN
    )
    await asyncio.sleep(0.2)
    acked = {answer.body for answer in crowd.answers if not answer.code}
    await server.start()
    town = Town(process.url)
    stored: set[str] = set()
    for writer, _, room_id in crowd.people:
        after, resident = 0, town.resident(writer)
        while True:
            page = await resident.history(room_id, after=after, limit=200)
            stored |= {message["content"] for message in page["messages"]}
            if not page["pagination"]["hasNext"]:
                break
            after = page["messages"][-1]["seq"]
    await town.close()
    lost = len(acked - stored)
    report.add(f"SIGTERM under load: lost of {len(acked)} acknowledged", str(lost), "0", lost == 0)


async def measure(folder: Path, say: Callable[[str], None]) -> bool:
    """Everything, in one server's life. True where every bound was kept."""
    stores = OutsideStores(folder / "stores")
    report = Report()
    await stores.start()
    server = ServerControl(ServerProcess(folder, {**SETTINGS, **stores.settings}))
    try:
        await server.start()
        crowd = Crowd(server.process.url)
        await crowd.gather()
        await asyncio.sleep(1)
        for manner in ("refuse", "stall"):
            await measure_redis_away(crowd, stores, report, manner)
        for manner in ("refuse", "stall"):
            await measure_mongodb_away(crowd, stores, report, manner)
            await asyncio.sleep(1)
        await measure_stop(crowd, server, report)
        await crowd.leave()
    finally:
        server.kill()
        await stores.stop()
    for line in report.lines:
        say(line)
    return report.is_good


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        is_good = asyncio.run(measure(Path(tempfile.mkdtemp(prefix="trouble-")), lambda line: print(line, flush=True)))
        return 0 if is_good else 1
    return 1


if __name__ == "__main__":
    sys.exit(main())
