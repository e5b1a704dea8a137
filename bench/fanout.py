"""One message to many sockets: `python -m bench.fanout` counts deliveries per second in rooms of 10, 100 and 1,000.

A room has two people; one of them has all the sockets. The next message is sent when every socket has the last one.
"""

import argparse
import asyncio
import contextlib
import sys
from typing import Any, Final

import msgspec

from bench.figures import median
from bench.load import Job, Outcome
from bench.report import publish
from bench.seed import Pair, seed_pairs
from bench.servers import Server, run_python, run_server, run_stores

SERVERS: Final = ("madang", "madang, no store", "baseline, no store", "node, no store", "bare relay")
WARM_UP: Final = 1.0


async def measure(server: Server, pair: Pair, sockets: int, options: argparse.Namespace) -> Outcome:
    job = Job(
        host=server.host,
        port=server.port,
        pairs=[pair],
        seconds=options.seconds,
        warm_up=WARM_UP,
        window=options.window,
        sockets=sockets,
        fan_out=True,
        cpu_of=server.pids,
    )
    outcome = msgspec.json.decode(await run_python("bench.load", given=msgspec.json.encode(job)), type=Outcome)
    for failure in outcome.failures:
        print(f"{server.name}: {failure}", file=sys.stderr)
    return outcome


def cpu_each(outcome: Outcome, part: str) -> float:
    return outcome.cpu[part] / max(outcome.deliveries, 1) * 1e6


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    found: dict[tuple[str, int], list[Outcome]] = {}
    async with contextlib.AsyncExitStack() as stack:
        stores = await stack.enter_async_context(run_stores())
        with stores.database() as database:
            pairs = await seed_pairs(database, len(options.sockets))
        servers = [await stack.enter_async_context(run_server(name, stores)) for name in options.servers]
        for _ in range(options.rounds):
            for pair, sockets in zip(pairs, options.sockets, strict=True):
                for server in servers:
                    outcome = await measure(server, pair, sockets, options)
                    found.setdefault((server.name, sockets), []).append(outcome)
    return [
        {
            "server": name,
            "room": f"{sockets} sockets",
            "deliveries/s": round(median([outcome.deliveries for outcome in outcomes])),
            "messages/s": round(median([outcome.acks for outcome in outcomes]), 1),
            "delivery p50 ms": median([outcome.delivery.p50 for outcome in outcomes]),
            "delivery p99 ms": median([outcome.delivery.p99 for outcome in outcomes]),
            # CPU time for each delivery: it hardly depends on who else is busy.
            "server µs": round(median([cpu_each(outcome, "server") for outcome in outcomes]), 2),
            "generator µs": round(median([cpu_each(outcome, "generator") for outcome in outcomes]), 2),
        }
        for (name, sockets), outcomes in found.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", nargs="+", default=list(SERVERS))
    parser.add_argument("--sockets", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--window", type=int, default=4, help="messages on their way at once")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = asyncio.run(run(options))
    publish("fanout", "Fan-out", rows, plot=("deliveries/s", "deliveries per second"), details=vars(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
