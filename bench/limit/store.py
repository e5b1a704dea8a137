"""The limit of storage: how fast the store takes the server's own documents in ordered batches, one after the other.

`python -m bench.limit.store` fills a database of its own on the store that the environment names, and prints JSON.
"""

import argparse
import itertools
import os
import sys
import time
import uuid
from collections.abc import Iterator

import msgspec
import uvloop

from bench.load import PADDING
from server.models import Message, now
from server.storage.mongo.database import Database
from server.storage.mongo.messages import MessageStore


def make_messages(rooms: int) -> Iterator[Message]:
    """Messages of many rooms in turn, as the room log would number them."""
    room_ids = [uuid.uuid4().hex for _ in range(rooms)]
    senders = [uuid.uuid4().hex for _ in range(rooms)]
    for seq in itertools.count(1):
        for room_id, sender in zip(room_ids, senders, strict=True):
            yield Message(uuid.uuid4().hex, room_id, seq, sender, seq, f"{seq} {PADDING}", "TEXT", now())


async def measure(batches: list[int], rooms: int, seconds: float) -> dict[int, float]:
    """Documents per second by batch size; the sizes take turns in short slices."""
    database = Database(os.environ["MADANG_MONGODB__URI"], f"limit_{uuid.uuid4().hex[:8]}")
    store, source = MessageStore(database), make_messages(rooms)
    await store.prepare()
    await store.insert(list(itertools.islice(source, 500)))
    stored, spent = dict.fromkeys(batches, 0), dict.fromkeys(batches, 0.0)
    while min(spent.values()) < seconds:
        for size in batches:
            begun = time.perf_counter()
            while (elapsed := time.perf_counter() - begun) < min(1.0, seconds):
                stored[size] += await store.insert(list(itertools.islice(source, size)))
            spent[size] += elapsed
    database.close()
    return {size: round(stored[size] / spent[size], 1) for size in batches}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 25, 50, 100, 200])
    parser.add_argument("--rooms", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(measure(options.batch, options.rooms, options.seconds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
