"""How late the event loop is: `python -m bench.lag` asks the server itself, idle, at given rates and at its highest."""

import argparse
import asyncio
import sys
from typing import Any, Final

import msgspec

from bench.figures import Latency
from bench.relay import measure
from bench.report import publish
from bench.seed import seed_pairs
from bench.servers import COMMANDS, PRODUCT, run_server, run_stores

WATCHED: Final = "madang, watched"
FULL: Final = "all it takes"


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for rate in [*options.rates, 0.0]:
        async with run_stores() as stores:
            report = stores.data_dir / "lag.json"
            COMMANDS[WATCHED] = [sys.executable, "-m", "bench.launch", "--lag", str(report), "--", *PRODUCT[2:]]
            with stores.database() as database:
                pairs = await seed_pairs(database, options.pairs)
            async with run_server(WATCHED, stores) as server:
                outcome = await measure(server, pairs, rate, options)
            lag = msgspec.json.decode(report.read_bytes(), type=Latency)
        rows.append(
            {
                "load": f"{rate:g}/s" if rate else FULL,
                "messages/s": round(outcome.acks),
                "lag p50 ms": lag.p50,
                "lag p99 ms": lag.p99,
                "lag worst ms": lag.worst,
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--rates", type=float, nargs="+", default=[500.0, 1000.0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--window", type=int, default=1)
    rows = asyncio.run(run(parser.parse_args()))
    publish("lag", "Event loop lag", rows, plot=("lag p99 ms", "ms (p99)"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
