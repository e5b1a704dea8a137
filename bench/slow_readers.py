"""What clients cost that do not read: `python -m bench.slow_readers` measures the server's memory and others' acks.

60 sockets stop reading while each of their people is sent long messages, 100 connections ask for the largest page of
history and never read it, and one absent person is sent 1,000 long messages. 20 other pairs write to each other. Then
the same is sent while everybody reads, as a measure of what the messages themselves cost.
"""

import argparse
import asyncio
import socket
import sys
import time
from collections.abc import Awaitable, Sequence
from typing import Any, Final

import uvloop

from bench.attack import LONGEST, Bystander, Calls, connect_unread, fill_room, page_of, request
from bench.figures import latency_of, read_memory
from bench.report import publish
from bench.seed import Pair, seed_pairs
from bench.servers import Server, run_server, run_stores
from bench.sockets import ignore, open_links

TOLD: Final = 60
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


async def send_long(server: Server, pair: Pair, count: int, pause: float) -> None:
    """The first of a pair sends at a fixed pace, or as fast as it may where that is slower."""
    calls = Calls(server, pair.tokens[0])
    due = time.perf_counter()
    while count:
        status = await calls.call("POST", f"/messages/chats/{pair.room_id}/messages", {"content": LONGEST})
        count -= status == 201
        due = max(due + pause, time.perf_counter() - 1) if status == 201 else time.perf_counter() + 0.5
        await asyncio.sleep(max(0, due - time.perf_counter()))
    calls.close()


class Crowd:
    """Those whom long messages and large pages are sent to: they read all of it, or they read nothing."""

    def __init__(self, server: Server, pairs: Sequence[Pair], options: argparse.Namespace) -> None:
        self._server = server
        self._told, self._paged, self._absent = pairs[:TOLD], pairs[TOLD:-1], pairs[-1]
        self._options = options

    async def attend(self, reads: bool) -> None:
        """Until every message is sent."""
        options = self._options
        told = [*self._told, self._absent] if reads else self._told
        links = await open_links(self._server.host, self._server.port, [pair.tokens[1] for pair in told], ignore)
        if not reads:
            for link in links:
                link.transport.pause_reading()
        pages = [self._paged[number % len(self._paged)] for number in range(UNREAD)]
        asked = [asyncio.create_task(self._read_page(pair)) for pair in pages] if reads else []
        unread = [] if reads else [await ask_unread(self._server, pair) for pair in pages]
        pause = options.seconds / options.long, options.seconds / options.absent
        sending = [asyncio.create_task(send_long(self._server, pair, options.long, pause[0])) for pair in self._told]
        sending.append(asyncio.create_task(send_long(self._server, self._absent, options.absent, pause[1])))
        _, late = await asyncio.wait(sending, timeout=options.seconds + options.patience)
        if late:
            print(f"{len(late)} of {len(sending)} senders were not done", file=sys.stderr)
        for task in (*late, *asked):
            task.cancel()
        for plain in unread:
            plain.close()
        for link in links:
            link.transport.abort()

    async def _read_page(self, pair: Pair) -> None:
        calls = Calls(self._server, pair.tokens[1])
        while await calls.call("GET", page_of(pair)) == 429:
            await asyncio.sleep(0.5)
        calls.close()


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    async with run_stores() as stores:
        with stores.database() as database:
            pairs = await seed_pairs(database, OTHERS + TOLD + UNREAD_ACCOUNTS + 1)
        async with run_server("madang", stores, LIMITS) as server:
            bystanders = [Bystander(pair, PAUSE) for pair in pairs[:OTHERS]]
            await asyncio.gather(*(bystander.open(server) for bystander in bystanders))
            for pair in pairs[OTHERS + TOLD : -1]:
                await fill_room(server, pair, options.page)
            crowd = Crowd(server, pairs[OTHERS:], options)
            rows = [await measure("nobody else is there", server, bystanders, asyncio.sleep(options.seconds))]
            for _ in range(options.rounds):
                rows.append(await measure("nobody reads", server, bystanders, crowd.attend(reads=False)))
                rows.append(await measure("all read", server, bystanders, crowd.attend(reads=True)))
    return rows


async def measure(name: str, server: Server, bystanders: Sequence[Bystander], crowd: Awaitable[None]) -> dict[str, Any]:
    """What bystanders wait, and what the server's memory grows by, while `crowd` is at it."""
    memory = Memory(server)
    ends = asyncio.ensure_future(crowd)
    watching = asyncio.create_task(memory.watch())
    found = await asyncio.gather(*(bystander.send_until(ends) for bystander in bystanders))
    watching.cancel()
    ends.result()
    late = latency_of([one for some in found for one in some])
    grown = round((memory.most - memory.before) / 1e6, 1)
    return {
        "while": name,
        "acks": sum(map(len, found)),
        "ack p50 ms": late.p50,
        "ack p99 ms": late.p99,
        "grown MB": grown,
    }


async def ask_unread(server: Server, pair: Pair) -> socket.socket:
    plain = await connect_unread(server)
    await asyncio.get_running_loop().sock_sendall(plain, request(server, pair.tokens[1], "GET", page_of(pair)))
    return plain


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="in which the messages are sent")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--page", type=int, default=200, help="messages in the rooms whose pages are not read")
    parser.add_argument("--long", type=int, default=80, help="messages to each of those who are sent some")
    parser.add_argument("--absent", type=int, default=1000, help="messages to the one who is away")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds that senders may take longer")
    options = parser.parse_args()
    rows = uvloop.run(run(options))
    publish("slow_readers", "Clients that do not read", rows, plot=("grown MB", "MB"), details=vars(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
