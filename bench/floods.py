"""What three floods of one account do to everybody else: `python -m bench.floods` measures a bystander's acks.

Pages: 40 connections ask for the largest page of history. Sync: 200 times a second one with 14,000 rooms of which the
last is wrong. Profile: 30 connections change one profile to names of 100 Han characters. Limits are as shipped.
"""

import argparse
import asyncio
import itertools
import sys
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Final

import uvloop

from bench.attack import Bystander, Calls, fill_room, page_of
from bench.figures import latency_of, read_cpu
from bench.report import publish
from bench.seed import Pair, seed_pairs
from bench.servers import Server, run_server, run_stores
from bench.sockets import EVENT, open_links

READERS: Final = 40
WRITERS: Final = 30
SYNCS_PER_SECOND: Final = 200
SYNC_ROOMS: Final = 14_000
PAUSE: Final = 0.02
SETTLE_SECONDS: Final = 3.0
LIMITS: Final = ("--set", "limits.enabled=true")

Answers = Counter[int]


async def pages(server: Server, pair: Pair, answers: Answers) -> None:
    await fill_room(server, pair)

    async def ask() -> None:
        calls = Calls(server, pair.tokens[1])
        while True:
            answers[await calls.call("GET", page_of(pair))] += 1

    await asyncio.gather(*(ask() for _ in range(READERS)))


async def syncs(server: Server, pair: Pair, answers: Answers) -> None:
    rooms = ",".join(f'"{number:x}":0' for number in range(SYNC_ROOMS - 1))
    payload = EVENT + f'1["sync",{{"rooms":{{{rooms},"z":""}}}}]'.encode()
    (link,) = await open_links(server.host, server.port, [pair.tokens[1]])
    link.on_frame = lambda _buffer, _start, _stop: answers.update((1,))
    head = bytes((0x81, 0xFF)) + len(payload).to_bytes(8, "big") + b"\0\0\0\0"
    while not link.closed.done():
        link.transport.write(head + payload)
        await asyncio.sleep(1 / SYNCS_PER_SECOND)


async def profiles(server: Server, pair: Pair, answers: Answers) -> None:
    numbers = itertools.count()

    async def change() -> None:
        calls = Calls(server, pair.tokens[1])
        while True:
            first = 0x4E00 + 100 * (next(numbers) % 200)
            name = "".join(map(chr, range(first, first + 100)))
            answers[await calls.call("PATCH", "/users/me", {"firstName": name, "lastName": name})] += 1

    await asyncio.gather(*(change() for _ in range(WRITERS)))


FLOODS: Final = {"pages": pages, "sync": syncs, "profile": profiles}


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    async with run_stores() as stores:
        with stores.database() as database:
            quiet, *pairs = await seed_pairs(database, 1 + len(FLOODS))
        async with run_server("madang", stores, LIMITS) as server:
            bystander = Bystander(quiet, PAUSE)
            await bystander.open(server)
            rows.append(await measure(server, bystander, "none", None, Counter(), options.seconds))
            for name, pair in zip(FLOODS, pairs, strict=True):
                if name not in options.floods:
                    continue
                answers: Answers = Counter()
                flood = FLOODS[name](server, pair, answers)
                rows.append(await measure(server, bystander, name, flood, answers, options.seconds))
                print(rows[-1], file=sys.stderr)
    return rows


async def measure(
    server: Server,
    bystander: Bystander,
    name: str,
    flood: Coroutine[Any, Any, None] | None,
    answers: Answers,
    seconds: float,
) -> dict[str, Any]:
    flooding = None if flood is None else asyncio.create_task(flood)
    while flooding is not None and not answers and not flooding.done():
        # Until its data is stored.
        await asyncio.sleep(PAUSE)
    before = read_cpu(server.process.pid)
    late = latency_of(await bystander.send_for(seconds))
    cpu = (read_cpu(server.process.pid) - before) / seconds
    if flooding is not None:
        flooding.cancel()
        await asyncio.wait([flooding])
        await asyncio.sleep(SETTLE_SECONDS)
    return {
        "flood": name,
        "ack p50 ms": late.p50,
        "ack p99 ms": late.p99,
        "longest ack ms": late.worst,
        "server CPU": round(cpu, 2),
        "answers/s": round(answers.total() / seconds),
        "refused": sum(bystander.refusals.values()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--floods", nargs="+", default=list(FLOODS))
    options = parser.parse_args()
    rows = uvloop.run(run(options))
    publish("floods", "Longest ack of a bystander", rows, plot=("longest ack ms", "ms"), details=vars(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
