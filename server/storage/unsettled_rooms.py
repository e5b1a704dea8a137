"""Rooms whose last messages may be stored but not yet delivered, as a sorted set in Redis that outlives the server."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from server.storage.redis_store import RedisStore

# Room ids, each scored by the stamp of its last entering.
UNSETTLED: Final = "unsettled"

# Removes each room whose stamp is still the given one: a removal that arrives late never takes a newer entry away.
# KEYS: the set. ARGV: room, stamp, room, stamp, …
_REMOVE: Final = """
for i = 1, #ARGV, 2 do
  local stamp = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if stamp and tonumber(stamp) == tonumber(ARGV[i + 1]) then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
"""
REMOVE_BATCH: Final = 1_000


class UnsettledRooms:
    """Stamps grow with time and stay below 2**53."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._remove: Any = store.client.register_script(_REMOVE)

    @property
    def is_available(self) -> bool:
        return self._store.is_available

    async def add(self, room_ids: Collection[str], stamp: int) -> None:
        await self._store.run(self._store.client.zadd(UNSETTLED, dict.fromkeys(room_ids, stamp)))

    async def remove(self, stamps: Mapping[str, int]) -> None:
        """Remove rooms that have not been added again since their stamp."""
        rooms = list(stamps.items())
        for start in range(0, len(rooms), REMOVE_BATCH):
            arguments = [value for pair in rooms[start : start + REMOVE_BATCH] for value in pair]
            await self._store.run(self._remove(keys=[UNSETTLED], args=arguments))

    async def read(self) -> dict[str, int]:
        """All rooms in the set, with their stamps."""
        entries: list[tuple[bytes, float]] = await self._store.run(
            self._store.client.zrange(UNSETTLED, 0, -1, withscores=True)
        )
        return {room_id.decode(): int(stamp) for room_id, stamp in entries}
