"""Planted: entries leave the offline queue when they are read, not when the client has them."""

import asyncio

from server.storage.redis.offline_queues import OfflineQueues, Place, Slice
from tests.torture.planted import serve

read = OfflineQueues.read
SLOW_WAY = 0.3


async def read_and_remove(
    self: OfflineQueues, user_id: str, *, since: int, most_bytes: int, after: Place | None = None
) -> Slice:
    found = await read(self, user_id, since=since, most_bytes=most_bytes, after=after)
    if found.entries:
        await self.remove(user_id, [entry.name for entry in found.entries])
        await asyncio.sleep(SLOW_WAY)
    return found


if __name__ == "__main__":
    OfflineQueues.read = read_and_remove  # type: ignore[method-assign]
    serve()
