"""Presence as leases in Redis: whoever stops renewing is found by a sweep."""

from collections.abc import Collection
from typing import Final

from server.storage.redis.client import RedisClient

SWEEP_BATCH: Final = 1_000


class PresenceLeases:
    def __init__(self, store: RedisClient) -> None:
        self._store = store
        # Users with a connected socket, scored by the end of their lease in milliseconds since 1970.
        self._leases = store.key("presence")

    async def renew(self, user_ids: Collection[str], until: int) -> None:
        """Extend these users' leases to `until`."""
        if user_ids:
            await self._store.run(self._store.client.zadd(self._leases, dict.fromkeys(user_ids, until)))

    async def release(self, user_ids: Collection[str]) -> None:
        if user_ids:
            await self._store.run(self._store.client.zrem(self._leases, *user_ids))

    async def find_expired(self, at: int) -> list[tuple[str, int]]:
        """Users whose lease ended at or before `at`, with its end."""
        found: list[tuple[bytes, float]] = await self._store.run(
            self._store.client.zrangebyscore(self._leases, "-inf", at, start=0, num=SWEEP_BATCH, withscores=True)
        )
        return [(user.decode(), int(until)) for user, until in found]
