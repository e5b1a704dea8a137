"""One-to-one messages, stored, acknowledged and delivered: how many per second, and how long each takes.

`python -m bench.relay` compares the server with the baseline, the same on Node, and the store's own rate.
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
from bench.servers import Server, Stores, run_python, run_server, run_stores

WARM_UP: Final = 2.0
STORED: Final = ("madang", "baseline", "node")
UNSTORED: Final = ("madang, no store", "baseline, no store", "node, no store", "bare relay")


async def measure(server: Server, pairs: list[Pair], rate: float, options: argparse.Namespace) -> Outcome:
    """One run of the load generator."""
    job = Job(
        host=server.host,
        port=server.port,
        pairs=pairs,
        seconds=options.seconds,
        warm_up=WARM_UP,
        rate=rate,
        window=options.window,
        cpu_of=server.pids,
    )
    outcome = msgspec.json.decode(await run_python("bench.load", given=msgspec.json.encode(job)), type=Outcome)
    for failure in outcome.failures:
        print(f"{server.name}: {failure}", file=sys.stderr)
    return outcome


async def measure_store(stores: Stores, options: argparse.Namespace) -> dict[int, float]:
    arguments = ["--batch", *map(str, options.batches), "--seconds", str(options.seconds)]
    return msgspec.json.decode(
        await run_python("bench.limit.store", *arguments, environment=stores.environment), type=dict[int, float]
    )


def summarise(name: str, pairs: int, rate: float, outcomes: list[Outcome]) -> dict[str, Any]:
    """Medians of the rounds. The last columns are CPU time for each message: it hardly depends on who else is busy."""

    def middle(read: Any) -> float:
        return round(median([read(outcome) for outcome in outcomes]), 3)

    return {
        "server": name,
        "load": f"{pairs} pairs" if not rate else f"{pairs} pairs at {rate:g}/s",
        "messages/s": middle(lambda outcome: outcome.acks),
        "deliveries/s": middle(lambda outcome: outcome.deliveries),
        "ack p50 ms": middle(lambda outcome: outcome.ack.p50),
        "ack p99 ms": middle(lambda outcome: outcome.ack.p99),
        "delivery p50 ms": middle(lambda outcome: outcome.delivery.p50),
        "delivery p99 ms": middle(lambda outcome: outcome.delivery.p99),
        **{
            f"{part} µs": middle(lambda outcome, part=part: outcome.cpu.get(part, 0.0) / max(outcome.acks, 1) * 1e6)
            for part in ("server", "mongodb", "generator")
        },
    }


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    most = max(options.pairs, default=0)
    loads = [(pairs, 0.0) for pairs in options.pairs] + [(options.fixed_pairs, rate) for rate in options.rates]
    found: dict[tuple[str, int, float], list[Outcome]] = {}
    limits: list[dict[int, float]] = []
    async with contextlib.AsyncExitStack() as stack:
        servers = []
        for name in options.servers:
            stores = await stack.enter_async_context(run_stores())
            with stores.database() as database:
                pairs = await seed_pairs(database, max(most, options.fixed_pairs if options.rates else 1))
            servers.append((await stack.enter_async_context(run_server(name, stores)), pairs))
        own_stores = await stack.enter_async_context(run_stores()) if options.batches else None
        for round_number in range(options.rounds):
            for count, rate in loads:
                for server, pairs in servers:
                    outcome = await measure(server, pairs[:count], rate, options)
                    found.setdefault((server.name, count, rate), []).append(outcome)
                    print(
                        f"round {round_number + 1}: {server.name}, {count} pairs, "
                        f"{f'{rate:g}/s' if rate else 'all it takes'}: {outcome.acks:,.0f} messages/s, "
                        f"ack p50 {outcome.ack.p50} p99 {outcome.ack.p99} ms",
                        file=sys.stderr,
                    )
            if own_stores is not None:
                limits.append(await measure_store(own_stores, options))
    rows = [summarise(*key, outcomes) for key, outcomes in found.items()]
    for size in options.batches:
        rate = median([limit[size] for limit in limits])
        rows.append({"server": "store alone", "load": f"batches of {size}", "messages/s": rate})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-store", action="store_true", help="compare relaying alone; nothing is stored")
    parser.add_argument("--servers", nargs="+", help="which servers, in this order")
    parser.add_argument("--pairs", type=int, nargs="*", default=[1, 50, 500], help="runs at the highest rate")
    parser.add_argument("--window", type=int, default=1, help="messages that a sender keeps unanswered at that rate")
    parser.add_argument("--rates", type=float, nargs="*", default=[], help="runs at a fixed rate, in messages/s")
    parser.add_argument("--fixed-pairs", type=int, default=50)
    parser.add_argument("--batches", type=int, nargs="*", help="batch sizes for the store alone")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", help="of the files in bench/results")
    options = parser.parse_args()
    options.servers = options.servers or list(UNSTORED if options.no_store else STORED)
    if options.batches is None:
        options.batches = [] if options.no_store else [1, 25, 50, 100, 200]
    rows = asyncio.run(run(options))
    title = "Relay, nothing stored" if options.no_store else "Relay: stored, acknowledged, delivered"
    name = options.name or ("relay-no-store" if options.no_store else "relay")
    publish(name, title, rows, plot=("messages/s", "messages per second"), details=vars(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
