"""Planted: entries leave the offline queue when they are read, not when the client has them."""

import asyncio

from server.storage.offline_queues import OfflineQueues
from tests.torture.planted import serve

read = OfflineQueues.read
SLOW_WAY = 0.3


async def read_and_remove(self: OfflineQueues, user_id: str, *, since: int) -> list[tuple[bytes, bytes]]:
    entries = await read(self, user_id, since=since)
    if entries:
        await self.remove(user_id, [entry for entry, _ in entries])
        await asyncio.sleep(SLOW_WAY)
    return entries


if __name__ == "__main__":
    OfflineQueues.read = read_and_remove  # type: ignore[method-assign]
    serve()
