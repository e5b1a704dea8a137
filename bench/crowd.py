"""A crowd comes online: `python -m bench.crowd` lets 1,000 people who share a room of 1,000 connect within 10 s.

The server itself says how late its event loop was, from its start to its end; the people, how many events came to them.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from typing import Any, Final

import msgspec
import uvloop

from bench.figures import Latency, read_cpu
from bench.report import publish
from bench.seed import Group, seed_group
from bench.servers import COMMANDS, PRODUCT, Server, run_server, run_stores
from bench.sockets import EVENT, close_links, open_link

WATCHED: Final = "madang, watched"
# Everybody stays so long after the last has come.
STAY_SECONDS: Final = 2.0


class Crowd:
    """Counts the events that all of them hear, by name."""

    def __init__(self, server: Server, group: Group, seconds: float) -> None:
        self._server = server
        self._group = group
        self._seconds = seconds
        self.heard: Counter[str] = Counter()

    async def come(self) -> float:
        """Connect all, evenly. Returns the CPU seconds of the server for each."""
        count = len(self._group.tokens)
        cpu = read_cpu(self._server.process.pid)
        links = await asyncio.gather(
            *(self._come_one(token, self._seconds * number / count) for number, token in enumerate(self._group.tokens))
        )
        await asyncio.sleep(STAY_SECONDS)
        spent = read_cpu(self._server.process.pid) - cpu
        close_links(list(links))
        return spent / count

    async def _come_one(self, token: str, after: float) -> Any:
        await asyncio.sleep(after)
        return await open_link(self._server.host, self._server.port, token, self._take)

    def _take(self, buffer: bytes, start: int, stop: int) -> None:
        if buffer.startswith(EVENT, start):
            self.heard[buffer[start + len(EVENT) + 2 : stop].split(b'"', 1)[0].decode()] += 1


async def measure(size: int, options: argparse.Namespace) -> dict[str, Any]:
    async with run_stores() as stores:
        report = stores.data_dir / "lag.json"
        COMMANDS[WATCHED] = [sys.executable, "-m", "bench.launch", "--lag", str(report), "--", *PRODUCT[2:]]
        with stores.database() as database:
            group = await seed_group(database, size)
        async with run_server(WATCHED, stores) as server:
            crowd = Crowd(server, group, options.seconds)
            begun = time.perf_counter()
            cpu = await crowd.come()
            seconds = time.perf_counter() - begun
        lag = msgspec.json.decode(report.read_bytes(), type=Latency)
    return {
        "room": f"{size} members",
        "all in after s": round(seconds - STAY_SECONDS, 1),
        "lag p50 ms": lag.p50,
        "lag p99 ms": lag.p99,
        "lag worst ms": lag.worst,
        "CPU ms each": round(cpu * 1000, 2),
        "events heard by all": crowd.heard.total(),
    }


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    return [await measure(size, options) for size in options.sizes]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    rows = uvloop.run(run(options))
    publish("crowd", "A crowd comes online", rows, plot=("lag p99 ms", "ms (p99)"), details=vars(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
