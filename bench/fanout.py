"""One message to many sockets: `python -m bench.fanout` counts deliveries per second in rooms of 10, 100 and 1,000.

A room has two people, one of whom has all the sockets; or, for Madang, it is also a group of as many people with a
socket each. The next message is sent when every socket has the last one.
"""

import argparse
import asyncio
import contextlib
import sys
from typing import Any, Final, NamedTuple

import msgspec

from bench.figures import median
from bench.load import Job, Outcome
from bench.report import publish
from bench.seed import Pair, seed_group, seed_pairs
from bench.servers import Server, run_python, run_server, run_stores
from server.storage.mongo.database import Database

SERVERS: Final = ("madang", "madang, no store", "baseline, no store", "node, no store", "bare relay")
WARM_UP: Final = 1.0


class Room(NamedTuple):
    """`receivers` are the tokens of a group's members."""

    name: str
    pair: Pair
    sockets: int
    receivers: list[str]


async def measure(server: Server, room: Room, options: argparse.Namespace) -> Outcome:
    job = Job(
        host=server.host,
        port=server.port,
        pairs=[room.pair],
        seconds=options.seconds,
        warm_up=WARM_UP,
        window=options.window,
        sockets=room.sockets,
        receivers=room.receivers,
        fan_out=True,
        cpu_of=server.pids,
    )
    outcome = msgspec.json.decode(await run_python("bench.load", given=msgspec.json.encode(job)), type=Outcome)
    for failure in outcome.failures:
        print(f"{server.name}: {failure}", file=sys.stderr)
    return outcome


def cpu_each(outcome: Outcome, part: str) -> float:
    return outcome.cpu[part] / max(outcome.deliveries, 1) * 1e6


async def make_rooms(database: Database, sizes: list[int]) -> list[Room]:
    pairs = await seed_pairs(database, len(sizes))
    rooms = [Room(f"{size} sockets", pair, size, []) for size, pair in zip(sizes, pairs, strict=True)]
    for size in sizes:
        group = await seed_group(database, size + 1)
        owner = Pair(group.room_id, (group.user_ids[0], group.user_ids[1]), (group.tokens[0], group.tokens[1]))
        rooms.append(Room(f"{size} people", owner, size, group.tokens[1:]))
    return rooms


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], list[Outcome]] = {}
    async with contextlib.AsyncExitStack() as stack:
        stores = await stack.enter_async_context(run_stores())
        with stores.database() as database:
            # Nobody comes back: what was not confirmed at the end of a run would be handed over in the next.
            rounds = [await make_rooms(database, options.sockets) for _ in range(options.rounds)]
        servers = [await stack.enter_async_context(run_server(name, stores)) for name in options.servers]
        for rooms in rounds:
            for room in rooms:
                for server in servers:
                    # The others know pairs only.
                    if not room.receivers or server.name.startswith("madang"):
                        outcome = await measure(server, room, options)
                        found.setdefault((server.name, room.name), []).append(outcome)
    return [
        {
            "server": name,
            "room": room,
            "deliveries/s": round(median([outcome.deliveries for outcome in outcomes])),
            "messages/s": round(median([outcome.acks for outcome in outcomes]), 1),
            "delivery p50 ms": median([outcome.delivery.p50 for outcome in outcomes]),
            "delivery p99 ms": median([outcome.delivery.p99 for outcome in outcomes]),
            # CPU time for each delivery: it hardly depends on who else is busy.
            "server µs": round(median([cpu_each(outcome, "server") for outcome in outcomes]), 2),
            "generator µs": round(median([cpu_each(outcome, "generator") for outcome in outcomes]), 2),
        }
        for (name, room), outcomes in found.items()
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
