"""Starts the embedded stores of a folder in a process of its own, to be killed: `python -m … FOLDER`.

Prints one line of JSON with the addresses when they answer, and stops them cleanly at the end of its input.
"""

import asyncio
import json
import sys

import uvloop

from server.config.settings import Settings
from server.embedded import EmbeddedStores


async def main(folder: str) -> None:
    stores = EmbeddedStores()
    addresses = await stores.start(Settings(data_dir=folder))
    print(json.dumps([addresses.mongodb_uri, addresses.redis_url]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await stores.stop()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
