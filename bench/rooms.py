"""What a room costs by its size: `python -m bench.rooms` appends, loads, counts, edits, syncs with 2 to 1,000 members.

In one process, through the services, on the embedded stores; nobody is connected. The sizes take turns.
"""

import argparse
import asyncio
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

import uvloop

from bench.figures import median
from bench.report import publish
from bench.seed import seed_people
from bench.servers import ROOT
from server.config.load import load
from server.context import Context, open_context
from server.models import Member, Room, RoomDetails, now
from server.requests import Edit, SendMessage, SyncPoint, SyncRequest

SIZES: Final = (2, 100, 1000)
SENDERS: Final = 2
AT_ONCE: Final = 50
LOADS: Final = 20
COUNTS: Final = 20_000
SYNCS: Final = 20
BEHIND: Final = 50
CHANGED: Final = 10


async def make_room(context: Context, size: int) -> tuple[str, list[str]]:
    """A group of so many people, written through the storage classes."""
    stores = context._stores
    people = await seed_people(stores.database, size)
    room_id = uuid.uuid4().hex
    members = [Member(room_id, user_id, joined_at=now()) for user_id in people]
    await stores.members.create(members)
    await stores.rooms.create(Room(room_id, people[0], None, now(), "GROUP", RoomDetails("Yard", history="ALL")))
    return room_id, people


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun


class Bench:
    def __init__(self, context: Context, room_id: str, people: list[str]) -> None:
        self._context = context
        self._room_id = room_id
        self._people = people
        self._reader = people[-1]

    async def append(self, count: int) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def send(number: int) -> None:
            async with gate:
                payload = SendMessage(room_id=self._room_id, content=f"{number} {'x' * 60}")
                await self._context.messages.send(self._people[number % SENDERS], payload)

        await asyncio.gather(*map(send, range(count)))

    async def load(self) -> None:
        await self._context.room_loader._fetch([self._room_id])

    async def count(self) -> None:
        room = await self._context.rooms.access_room(self._reader, self._room_id)
        for _ in range(COUNTS):
            room.unread(self._reader)

    async def change(self) -> None:
        """Edit some of the last messages, so that `sync` has changes to give."""
        page = await self._context._stores.messages.read_range(self._room_id, 0, CHANGED)
        for message in page:
            edit = Edit(message_id=message.id, content=f"edited {time.time_ns()}")
            await self._context.changes.edit(message.sender_id, edit)

    async def sync(self) -> None:
        room = await self._context.rooms.access_room(self._reader, self._room_id)
        point = SyncPoint(seq=room.last_seq - BEHIND, rev=room.last_rev - CHANGED)
        answer = await self._context.sync.catch_up(self._reader, SyncRequest(rooms={self._room_id: point}))
        assert (len(answer.rooms[0].messages), len(answer.rooms[0].changed)) == (BEHIND, CHANGED)


async def measure(bench: Bench, messages: int) -> dict[str, float]:
    return {
        "appends/s": messages / await timed(lambda: bench.append(messages)),
        "load ms": median([await timed(bench.load) for _ in range(LOADS)]) * 1000,
        "unread µs": await timed(bench.count) / COUNTS * 1e6,
        "edit ms": await timed(bench.change) / CHANGED * 1000,
        "sync ms": median([await timed(bench.sync) for _ in range(SYNCS)]) * 1000,
    }


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    found: dict[int, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = load(ROOT / "config.yaml", [f"data_dir={folder}/data", "limits.enabled=false"], {})
        async with open_context(settings) as context:
            benches = {size: Bench(context, *await make_room(context, size)) for size in options.sizes}
            for bench in benches.values():
                # Everybody and everything is in memory then.
                await bench.append(AT_ONCE * 4)
            for _ in range(options.rounds):
                for size, bench in benches.items():
                    found.setdefault(size, []).append(await measure(bench, options.messages))
            await context.drain()
    return [
        {"room": f"{size} members"} | {name: round(median([one[name] for one in rounds]), 3) for name in rounds[0]}
        for size, rounds in found.items()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--messages", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = uvloop.run(run(options))
    publish("rooms", "Rooms", rows, plot=("appends/s", "appends per second"), details=vars(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
