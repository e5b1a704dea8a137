"""Getting in: logins and connects per second, and everybody coming back after a restart: `python -m bench.connect`."""

import argparse
import asyncio
import contextlib
import os
import sys
import time
from typing import Any, Final

import aiohttp
import uvloop

from bench.figures import latency_of, median, read_cpu
from bench.report import publish
from bench.seed import seed_pairs
from bench.servers import GENERATOR_CORE, Server, Stores, run_server, run_stores, start_server, stop
from bench.sockets import Link, Refused, close_links, open_link, open_links

SERVERS: Final = ("madang", "baseline", "node", "bare relay")
PASSWORD: Final = "correct horse battery staple"
AT_ONCE: Final = 50
LOGINS_AT_ONCE: Final = 4
# As Socket.IO's clients wait before they try again, in seconds.
RETRY: Final = (0.5, 1.5)


async def measure_logins(server: Server, seconds: float) -> dict[str, Any]:
    """Logins of a few accounts, several at once, over kept connections."""
    base = f"http://{server.host}:{server.port}/api/v1/auth"
    times: list[float] = []
    async with aiohttp.ClientSession() as client:
        accounts = [f"login{number}@example.com" for number in range(LOGINS_AT_ONCE)]
        for email in accounts:
            person = {"email": email, "password": PASSWORD, "firstName": "Ada", "lastName": "Example"}
            async with client.post(f"{base}/register", json=person) as answer:
                assert answer.status == 201, await answer.text()
        end = time.perf_counter() + seconds

        async def log_in_again_and_again(email: str) -> None:
            while (begun := time.perf_counter()) < end:
                async with client.post(f"{base}/login", json={"email": email, "password": PASSWORD}) as answer:
                    assert answer.status == 200, await answer.text()
                times.append(time.perf_counter() - begun)

        await asyncio.gather(*(log_in_again_and_again(email) for email in accounts))
    latency = latency_of(times)
    return {"per second": len(times) / seconds, "p50 ms": latency.p50, "p99 ms": latency.p99}


async def measure_connects(server: Server, tokens: list[str]) -> dict[str, Any]:
    """All connect, 50 at a time, then go."""
    cpu, begun = read_cpu(server.process.pid), time.perf_counter()
    links = await open_links(server.host, server.port, tokens, at_once=AT_ONCE)
    seconds, cpu = time.perf_counter() - begun, read_cpu(server.process.pid) - cpu
    close_links(links)
    await asyncio.sleep(1.0)
    return {"per second": len(tokens) / seconds, "CPU ms each": cpu / len(tokens) * 1000}


async def come_back(server: Server, token: str, number: int) -> Link:
    """One client that tries until it is in."""
    while True:
        try:
            return await open_link(server.host, server.port, token)
        except (Refused, OSError, TimeoutError):
            await asyncio.sleep(RETRY[0] + (RETRY[1] - RETRY[0]) * (number % 100) / 100)


async def measure_storm(name: str, stores: Stores, tokens: list[str]) -> dict[str, Any]:
    """Everybody is in when the server is killed; it starts anew and all come at once."""
    server = await start_server(name, stores)
    links = await open_links(server.host, server.port, tokens, at_once=AT_ONCE)
    server.process.kill()
    server.process.wait()
    await asyncio.gather(*(link.closed for link in links))
    begun = time.perf_counter()
    again = await start_server(name, stores)
    ready = time.perf_counter()
    links = await asyncio.gather(*(come_back(again, token, number) for number, token in enumerate(tokens)))
    back = time.perf_counter()
    close_links(links)
    await stop(again.process)
    return {"restart s": ready - begun, "all back s": back - ready}


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    os.sched_setaffinity(0, {GENERATOR_CORE})
    async with run_stores() as stores, contextlib.AsyncExitStack() as stack:
        with stores.database() as database:
            pairs = await seed_pairs(database, options.clients // 2)
        tokens = [token for pair in pairs for token in pair.tokens]
        servers = [await stack.enter_async_context(run_server(name, stores)) for name in options.servers]
        found: dict[str, list[dict[str, Any]]] = {}
        for _ in range(options.rounds):
            for server in servers:
                found.setdefault(server.name, []).append(await measure_connects(server, tokens))
        for name, rounds in found.items():
            middle = {key: round(median([one[key] for one in rounds]), 2) for key in rounds[0]}
            rows.append({"server": name, "what": f"{len(tokens)} connects", **middle})
        logins = await measure_logins(next(server for server in servers if server.name == "madang"), options.seconds)
        rows.append({"server": "madang", "what": "logins", **logins})
        storms = [await measure_storm("madang", stores, tokens) for _ in range(options.rounds)]
        rows += [
            {"server": "madang", "what": key, "seconds": round(median([one[key] for one in storms]), 2)}
            for key in storms[0]
        ]
    columns = ["server", "what", "per second", "CPU ms each", "p50 ms", "p99 ms", "seconds"]
    return [{column: row.get(column) for column in columns} for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", nargs="+", default=list(SERVERS))
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of logins")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = uvloop.run(run(options))
    publish("connect", "Connecting", rows, plot=("per second", "per second"), details=vars(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
