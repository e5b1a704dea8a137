"""What clients cost that do not read: `python -m bench.slow_readers` measures the server's memory and others' acks.

60 sockets stop reading while each of their people is sent long messages, 100 connections ask for the largest page of
history and never read it, and one absent person is sent 1,000 long messages. 20 other pairs write to each other.
"""

import argparse
import asyncio
import socket
import sys
from typing import Any, Final

import uvloop

from bench.attack import LONGEST, Bystander, Calls, connect_unread, fill_room, page_of, request
from bench.figures import latency_of, read_memory
from bench.report import publish
from bench.seed import Pair, seed_pairs
from bench.servers import Server, run_server, run_stores
from bench.sockets import open_links

STOPPED: Final = 60
UNREAD: Final = 100
# Accounts that the connections which never read belong to.
UNREAD_ACCOUNTS: Final = 10
OTHERS: Final = 20
PAUSE: Final = 0.2
LOOK: Final = 0.1
LIMITS: Final = ("--set", "limits.enabled=true")


class Memory:
    """The most that the server has held so far."""

    def __init__(self, server: Server) -> None:
        self._pid = server.process.pid
        self.before = self.most = read_memory(self._pid)

    async def watch(self) -> None:
        while True:
            self.most = max(self.most, read_memory(self._pid))
            await asyncio.sleep(LOOK)


async def send_long(server: Server, pair: Pair, count: int) -> None:
    """The first of a pair sends as fast as it may."""
    calls = Calls(server, pair.tokens[0])
    while count:
        status = await calls.call("POST", f"/messages/chats/{pair.room_id}/messages", {"content": LONGEST})
        count -= status == 201
        if status != 201:
            await asyncio.sleep(0.5)
    calls.close()


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    async with run_stores() as stores:
        with stores.database() as database:
            pairs = await seed_pairs(database, OTHERS + STOPPED + UNREAD_ACCOUNTS + 1)
        others, stopped = pairs[:OTHERS], pairs[OTHERS : OTHERS + STOPPED]
        unread, absent = pairs[OTHERS + STOPPED : -1], pairs[-1]
        async with run_server("madang", stores, LIMITS) as server:
            bystanders = [Bystander(pair, PAUSE) for pair in others]
            await asyncio.gather(*(bystander.open(server) for bystander in bystanders))
            for pair in unread:
                await fill_room(server, pair, options.page)
            quiet = await acks(bystanders, options.seconds)
            memory = Memory(server)
            watching = asyncio.create_task(memory.watch())
            links = await open_links(server.host, server.port, [pair.tokens[1] for pair in stopped])
            for link in links:
                link.transport.pause_reading()
            plains = [await ask_unread(server, unread[number % UNREAD_ACCOUNTS]) for number in range(UNREAD)]
            sending = [asyncio.create_task(send_long(server, pair, options.long)) for pair in stopped]
            sending.append(asyncio.create_task(send_long(server, absent, options.absent)))
            disturbed = await acks(bystanders, options.seconds)
            await asyncio.wait(sending, timeout=options.patience)
            print(f"{sum(task.done() for task in sending)} of {len(sending)} senders are done", file=sys.stderr)
            for task in (watching, *sending):
                task.cancel()
            for plain in plains:
                plain.close()
            for link in links:
                link.transport.abort()
    grown = (memory.most - memory.before) / 1e6
    return [
        {"while": "all read", "ack p50 ms": quiet[0], "ack p99 ms": quiet[1], "grown MB": 0.0},
        {"while": "many do not", "ack p50 ms": disturbed[0], "ack p99 ms": disturbed[1], "grown MB": round(grown, 1)},
    ]


async def ask_unread(server: Server, pair: Pair) -> socket.socket:
    plain = await connect_unread(server)
    await asyncio.get_running_loop().sock_sendall(plain, request(server, pair.tokens[1], "GET", page_of(pair)))
    return plain


async def acks(bystanders: list[Bystander], seconds: float) -> tuple[float, float]:
    found = await asyncio.gather(*(bystander.send_for(seconds) for bystander in bystanders))
    late = latency_of([one for some in found for one in some])
    return late.p50, late.p99


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--page", type=int, default=200, help="messages in the rooms whose pages are not read")
    parser.add_argument("--long", type=int, default=80, help="messages to each who stopped reading")
    parser.add_argument("--absent", type=int, default=1000, help="messages to the one who is away")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds after which senders are ended")
    options = parser.parse_args()
    rows = uvloop.run(run(options))
    publish("slow_readers", "Clients that do not read", rows, plot=("grown MB", "MB"), details=vars(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
