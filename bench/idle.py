"""Idle connections: their memory and CPU, and the cost when all disappear at once.

`python -m bench.idle` connects 1,000 and 10,000 clients. It needs that many open files, here and in the server.
"""

import argparse
import asyncio
import os
import resource
import sys
import time
from typing import Any, Final

import uvloop

from bench.figures import read_cpu, read_memory
from bench.report import publish
from bench.seed import seed_pairs
from bench.servers import GENERATOR_CORE, Stores, run_server, run_stores
from bench.sockets import close_links, open_links

SERVERS: Final = ("madang", "baseline", "node", "bare relay")
# One local address has about 28,000 ports for one server; several make room for more.
SOURCES: Final = 4
REST_SECONDS: Final = 6.0
# The server has done with those who vanished when it uses less than this share of its core.
CALM: Final = 0.03


async def measure(name: str, stores: Stores, tokens: list[str]) -> dict[str, Any]:
    """One server from its start to the end of its last client."""
    async with run_server(name, stores) as server:
        pid = server.process.pid
        # Whatever is made once, at the first connections, is not counted.
        close_links(await open_links(server.host, server.port, tokens[:50]))
        await asyncio.sleep(1.0)
        empty = read_memory(pid)
        links = await open_links(server.host, server.port, tokens, sources=SOURCES)
        await asyncio.sleep(REST_SECONDS)
        full, cpu = read_memory(pid), read_cpu(pid)
        await asyncio.sleep(REST_SECONDS)
        idle = (read_cpu(pid) - cpu) / REST_SECONDS
        before, begun = read_cpu(pid), time.perf_counter()
        close_links(links)
        # What idle clients cost goes on while the server is asked whether it is calm.
        vanishing = await wait_calm(pid, idle) - before - idle * (time.perf_counter() - begun)
        return {
            "server": name,
            "clients": f"{len(tokens):,} clients",
            "KB each": round((full - empty) / len(tokens) / 1000, 1),
            "idle CPU": round(idle, 3),
            "vanishing CPU s": round(max(0.0, vanishing), 2),
        }


async def wait_calm(pid: int, idle: float) -> float:
    """The CPU time of a process once it has calmed down."""
    while True:
        before, begun = read_cpu(pid), time.perf_counter()
        await asyncio.sleep(1.0)
        now = read_cpu(pid)
        if (now - before) / (time.perf_counter() - begun) < idle + CALM:
            return now


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    os.sched_setaffinity(0, {GENERATOR_CORE})
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Servers inherit it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows = []
    async with run_stores() as stores:
        with stores.database() as database:
            pairs = await seed_pairs(database, options.people // 2)
        tokens = [token for pair in pairs for token in pair.tokens]
        for clients in options.clients:
            for name in options.servers:
                rows.append(await measure(name, stores, (tokens * (clients // len(tokens) + 1))[:clients]))
                print(rows[-1], file=sys.stderr)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", nargs="+", default=list(SERVERS))
    parser.add_argument("--clients", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--people", type=int, default=10000, help="with fewer people than clients, some have several")
    options = parser.parse_args()
    rows = uvloop.run(run(options))
    publish("idle", "Idle connections", rows, plot=("KB each", "KB of memory each"), details=vars(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
