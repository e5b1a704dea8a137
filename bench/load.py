"""The load generator: pairs of users who write to each other. A separate process, controlled by JSON.

`python -m bench.load` reads one `Job` from standard input and writes one `Outcome` to standard output.
"""

import asyncio
import gc
import itertools
import os
import resource
import sys
import time
from typing import Final

import msgspec
import uvloop

from bench.figures import Latency, latency_of, read_cpu
from bench.seed import Pair
from bench.sockets import ACK, EVENT, MESSAGE_NEW, Link, open_links

PADDING: Final = "the quick brown fox jumps over the lazy dog and looks back once, then twice, then runs home"
# uvloop's timers know whole milliseconds. Shorter sleeps would spin, on the core that the store needs.
TICK: Final = 0.001
DRAIN_SECONDS: Final = 20.0


class Job(msgspec.Struct):
    """The first of each pair sends, the second receives on as many sockets as `sockets` says; or those do whose tokens
    are in `receivers`, if there is one pair.

    With `rate` 0 each sender keeps `window` messages on their way, which is the most that the server can take: a
    message is on its way until it is acknowledged, or with `fan_out` until every socket has it.
    Otherwise `rate` messages per second in all are sent when they are due, and latency counts from then.
    `cpu_of` names processes whose CPU time is measured.
    """

    host: str
    port: int
    pairs: list[Pair]
    seconds: float
    warm_up: float
    window: int = 1
    rate: float = 0.0
    sockets: int = 1
    fan_out: bool = False
    receivers: list[str] = []
    cpu_of: dict[str, int] = {}


class Outcome(msgspec.Struct):
    """Of the time that was measured: rates per second, latencies in ms, CPU as shares of one core."""

    acks: float
    deliveries: float
    ack: Latency
    delivery: Latency
    failures: list[str]
    cpu: dict[str, float]


class Sender:
    """One pair. Its messages are numbered; every receiving socket must get the numbers in order and without gaps."""

    def __init__(self, load: "Load", pair: Pair, sockets: int) -> None:
        self._load = load
        self._head = b'["message:send",{"roomId":"%s","content":"' % pair.room_id.encode()
        self._acknowledged = 0
        self._delivered = 0
        self._sockets = sockets
        self.sent_at: list[float] = []
        self.link: Link

    @property
    def is_done(self) -> bool:
        return self._acknowledged == len(self.sent_at) and self._delivered == len(self.sent_at) * self._sockets

    def send(self, due: float) -> None:
        number = len(self.sent_at)
        self.sent_at.append(due)
        self.link.send(EVENT + b'%d%s%d %s"}]' % (number, self._head, number, PADDING.encode()))

    def take(self, buffer: bytes, start: int, stop: int) -> None:
        """A frame at the sender: acks count, one's own message does not."""
        if not buffer.startswith(ACK, start):
            return
        if buffer.find(b'"ok":true', start, stop) < 0:
            self._load.fail(buffer[start : start + 300].decode(errors="replace"))
        self._acknowledged += 1
        self._load.acked(self, self.sent_at[self._acknowledged - 1])

    def delivered(self, number: int) -> None:
        self._delivered += 1
        self._load.delivered(self, self.sent_at[number], is_last=self._delivered % self._sockets == 0)


class Receiver:
    """One socket of the second person."""

    def __init__(self, sender: Sender, load: "Load") -> None:
        self._sender = sender
        self._load = load
        self._received = 0

    def take(self, buffer: bytes, start: int, stop: int) -> None:
        if not buffer.startswith(MESSAGE_NEW, start):
            return
        number = self._received
        if buffer.find(b'"content":"%d ' % number, start, stop) < 0:
            self._load.fail(f"message {number} expected: {buffer[start : start + 300].decode(errors='replace')}")
        self._received += 1
        self._sender.delivered(number)


class Load:
    """All pairs of one job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._senders: list[Sender] = []
        self._is_sending = True
        self._acks: list[float] = []
        self._deliveries: list[float] = []
        self._is_counting = False
        self._failures: list[str] = []

    async def run(self) -> Outcome:
        job = self._job
        self._senders = [Sender(self, pair, len(job.receivers) or job.sockets) for pair in job.pairs]
        links = await open_links(job.host, job.port, [pair.tokens[0] for pair in job.pairs])
        for sender, link in zip(self._senders, links, strict=True):
            sender.link, link.on_frame = link, sender.take
        for sender, pair in zip(self._senders, job.pairs, strict=True):
            others = await open_links(job.host, job.port, job.receivers or [pair.tokens[1]] * job.sockets)
            for link in others:
                link.on_frame = Receiver(sender, self).take
            links += others
        gc.collect()
        gc.freeze()
        gc.disable()
        pace = asyncio.create_task(self._keep_pace()) if job.rate else self._fill_windows()
        await asyncio.sleep(job.warm_up)
        cpu_before, begun = self._cpu(), time.perf_counter()
        self._is_counting = True
        await asyncio.sleep(job.seconds)
        self._is_counting = self._is_sending = False
        seconds, cpu_after = time.perf_counter() - begun, self._cpu()
        if pace is not None:
            await pace
        await self._drain()
        for link in links:
            link.transport.close()
        return Outcome(
            acks=len(self._acks) / seconds,
            deliveries=len(self._deliveries) / seconds,
            ack=latency_of(self._acks),
            delivery=latency_of(self._deliveries),
            failures=self._failures[:5],
            cpu={name: round((cpu_after[name] - cpu_before[name]) / seconds, 3) for name in cpu_before},
        )

    def acked(self, sender: Sender, sent_at: float) -> None:
        now = time.perf_counter()
        if self._is_counting:
            self._acks.append(now - sent_at)
        if self._is_sending and not self._job.rate and not self._job.fan_out:
            sender.send(now)

    def delivered(self, sender: Sender, sent_at: float, *, is_last: bool) -> None:
        now = time.perf_counter()
        if self._is_counting:
            self._deliveries.append(now - sent_at)
        if is_last and self._is_sending and self._job.fan_out:
            sender.send(now)

    def fail(self, what: str) -> None:
        self._failures.append(what)

    def _fill_windows(self) -> None:
        for sender in self._senders:
            for _ in range(self._job.window):
                sender.send(time.perf_counter())

    async def _keep_pace(self) -> None:
        interval = 1 / self._job.rate
        due = time.perf_counter()
        senders = itertools.cycle(self._senders)
        while self._is_sending:
            now = time.perf_counter()
            while due <= now:
                next(senders).send(due)
                due += interval
            await asyncio.sleep(TICK)

    async def _drain(self) -> None:
        """Every sent message must arrive."""
        deadline = time.perf_counter() + DRAIN_SECONDS
        while not all(sender.is_done for sender in self._senders):
            if time.perf_counter() > deadline:
                self.fail("some messages were never acknowledged or delivered")
                return
            await asyncio.sleep(0.05)

    def _cpu(self) -> dict[str, float]:
        own = resource.getrusage(resource.RUSAGE_SELF)
        times = {name: read_cpu(pid) for name, pid in self._job.cpu_of.items()}
        return times | {"generator": own.ru_utime + own.ru_stime}


def main() -> int:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    outcome = uvloop.run(Load(job).run())
    os.write(1, msgspec.json.encode(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
