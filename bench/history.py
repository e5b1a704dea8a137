"""Reading back: `python -m bench.history` asks for pages, ranges and `sync` in rooms of 1,000 to 1,000,000 messages.

Each size has a server and stores of its own, filled through the storage classes; the questions take turns.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import aiohttp
import msgspec
import uvloop

from bench.figures import latency_of
from bench.load import PADDING
from bench.report import publish
from bench.seed import Pair, seed_pairs
from bench.servers import GENERATOR_CORE, Server, Stores, run_server, run_stores
from bench.sockets import ACK, EVENT, Link, open_link
from server.models import DELIVERY, Message, RoomEnd, now
from server.storage.mongo.messages import MessageStore
from server.storage.mongo.rooms import RoomStore

BATCH: Final = 500
PAGE: Final = 50
SYNCED: Final = 100
WARM_UP: Final = 20


async def fill(stores: Stores, size: int) -> Pair:
    """A room of so many messages, all of the first person's."""
    with stores.database() as database:
        (pair,) = await seed_pairs(database, 1)
        messages, rooms = MessageStore(database), RoomStore(database)
        await messages.prepare()
        begun, batch = time.perf_counter(), list[Message]()
        for first in range(1, size + 1, BATCH):
            batch = [_message(pair, seq) for seq in range(first, min(first + BATCH, size + 1))]
            await messages.insert(batch)
            if first % (BATCH * 100) == 1:
                print(f"\r{batch[-1].seq:,} of {size:,}, {time.perf_counter() - begun:.0f} s", end="", file=sys.stderr)
        await rooms.save_ends([RoomEnd(batch[-1].room_id, batch[-1], {DELIVERY: batch[-1].seq})])
    print(file=sys.stderr)
    return pair


def _message(pair: Pair, seq: int) -> Message:
    content = f"{seq} {PADDING}"
    return Message(uuid.uuid4().hex, pair.room_id, seq, pair.user_ids[0], seq, content, "TEXT", now())


class Reader:
    """The second person of one filled room, on REST and on a socket."""

    def __init__(self, server: Server, pair: Pair, size: int, client: aiohttp.ClientSession) -> None:
        self._server = server
        self._pair = pair
        self._size = size
        self._client = client
        self._answer: asyncio.Future[bytes] | None = None
        self._link: Link

    async def connect(self) -> None:
        self._link = await open_link(self._server.host, self._server.port, self._pair.tokens[1], self._take)

    def questions(self) -> dict[str, Callable[[], Any]]:
        """The queries, by name; `reference` does not depend on the size."""
        middle, last = self._size // 2, self._size // PAGE
        return {
            "reference: own profile": lambda: self._get("/api/v1/users/me"),
            "newest page": lambda: self._page("page=1"),
            "middle page": lambda: self._page(f"page={max(1, last // 2)}"),
            "last page": lambda: self._page(f"page={last}"),
            "before the middle": lambda: self._page(f"before={middle}"),
            "after the middle": lambda: self._page(f"after={middle}"),
            f"sync of {SYNCED}": self._sync,
        }

    async def _page(self, query: str) -> None:
        found = await self._get(f"/api/v1/messages/chats/{self._pair.room_id}/messages?limit={PAGE}&{query}")
        assert len(found["messages"]) == PAGE, found["pagination"]

    async def _get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self._pair.tokens[1]}"}
        address = f"http://{self._server.host}:{self._server.port}{path}"
        async with self._client.get(address, headers=headers) as answer:
            body = await answer.read()
            assert answer.status == 200, body
            return msgspec.json.decode(body)

    async def _sync(self) -> None:
        self._answer = asyncio.get_running_loop().create_future()
        have = self._size - SYNCED
        self._link.send(EVENT + b'1["sync",{"rooms":{"%s":%d}}]' % (self._pair.room_id.encode(), have))
        (answer,) = msgspec.json.decode((await self._answer)[len(ACK) + 1 :])
        assert len(answer["rooms"][0]["messages"]) == SYNCED, answer

    def _take(self, buffer: bytes, start: int, stop: int) -> None:
        if buffer.startswith(ACK, start) and self._answer is not None:
            self._answer.set_result(buffer[start:stop])


@contextlib.asynccontextmanager
async def open_reader(size: int, client: aiohttp.ClientSession) -> AsyncIterator[Reader]:
    async with run_stores() as stores:
        pair = await fill(stores, size)
        async with run_server("madang", stores) as server:
            reader = Reader(server, pair, size, client)
            await reader.connect()
            yield reader


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    os.sched_setaffinity(0, {GENERATOR_CORE})
    times: dict[tuple[str, int], list[float]] = {}
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(aiohttp.ClientSession())
        asked = [
            (size, (await stack.enter_async_context(open_reader(size, client))).questions()) for size in options.sizes
        ]
        for number in range(WARM_UP + options.questions):
            for name in asked[0][1]:
                for size, questions in asked:
                    begun = time.perf_counter()
                    await questions[name]()
                    if number >= WARM_UP:
                        times.setdefault((name, size), []).append(time.perf_counter() - begun)
    smallest = min(options.sizes)
    rows = []
    for (name, size), seconds in times.items():
        latency, least = latency_of(seconds), latency_of(times[name, smallest])
        rows.append(
            {
                "question": name,
                "room": f"{size:,} messages",
                "p50 ms": latency.p50,
                "p99 ms": latency.p99,
                f"p50 to that of {smallest:,}": round(latency.p50 / least.p50, 2),
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--questions", type=int, default=200, help="of each kind")
    options = parser.parse_args()
    rows = uvloop.run(run(options))
    publish("history", "History and sync", rows, plot=("p50 ms", "ms (median)"), details=vars(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
