"""Fixed-window counters in Redis, shared by all servers."""

from typing import Any, Final

from server.storage.redis.client import RedisClient

# The window begins with its first hit. One round trip, and every key has a TTL.
HIT: Final = """
local count = redis.call('INCR', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  left = tonumber(ARGV[1])
end
return {count, left}
"""


class FixedWindows:
    """Counters by key. Every call raises `Unavailable` while Redis is unavailable."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def hit(self, key: str, window: float) -> tuple[int, float]:
        """Count one hit. Returns the hits in the current window of `window` seconds, and the seconds until it ends."""
        count, left = await self._redis.run(self._redis.client.eval(HIT, 1, self._key(key), int(window * 1000)))
        return int(count), int(left) / 1000

    async def peek(self, key: str) -> tuple[int, float]:
        """The same without counting; `(0, 0.0)` if there is no window."""
        pipeline: Any = self._redis.client.pipeline(transaction=True)
        pipeline.get(self._key(key))
        pipeline.pttl(self._key(key))
        count, left = await self._redis.run(pipeline.execute())
        return int(count or 0), max(0, int(left)) / 1000

    async def clear(self, key: str) -> None:
        await self._redis.run(self._redis.client.delete(self._key(key)))

    def _key(self, key: str) -> str:
        return self._redis.key(f"window:{key}")
