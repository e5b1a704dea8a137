"""Runs the server with consumers of the log that write down what they see, and fail in ways that a test asks for.

The folder in `CONSUMERS` has a file `name.json` for each: `fails` is the share of calls that fail, half of them after
they have written; a call with the text in `refuses` fails always. While there is a file `name.closed`, all calls fail.
"""

import asyncio
import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from handlers.app import serve
from server.config.load import load
from server.log.output import start_logging
from server.room_state import StoredMessage
from server.services.room_log.background_consumer import MAX_BEHIND, LogConsumer

FOLDER = Path(os.environ["CONSUMERS"])


class ConsumerFailed(Exception):
    """What a consumer raises on purpose."""


def consumer_of(path: Path) -> LogConsumer:
    name, asked = path.stem, json.loads(path.read_text())
    chance = random.Random(os.getpid())

    async def consume(entries: Sequence[StoredMessage]) -> None:
        await asyncio.sleep(0)
        fails = chance.random() < asked.get("fails", 0)
        is_early = chance.random() < 0.5
        if (FOLDER / f"{name}.closed").exists() or any(one.message.content == asked.get("refuses") for one in entries):
            raise ConsumerFailed
        if fails and is_early:
            raise ConsumerFailed
        with (FOLDER / f"{name}.seen").open("a") as seen:
            for one in entries:
                seen.write(f"{one.room.id} {one.message.seq} {one.message.content}\n")
        if fails:
            raise ConsumerFailed

    return LogConsumer(name, consume, max_behind=asked.get("max_behind", MAX_BEHIND))


def main() -> None:
    assert sys.argv[1] == "--config"
    settings = load(Path(sys.argv[2]), sys.argv[4::2], os.environ)
    start_logging(settings.log.level, settings.log.format)
    consumers = [consumer_of(path) for path in sorted(FOLDER.glob("*.json"))]
    asyncio.run(serve(settings, ready=lambda url: print(f"listening on {url}", flush=True), consumers=consumers))


if __name__ == "__main__":
    main()
