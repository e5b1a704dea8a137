"""Presence leases in Redis: a sweep finds users whose lease was not renewed."""

from collections.abc import Collection
from typing import Final

from server.storage.redis.client import RedisClient

SWEEP_BATCH: Final = 1_000


class PresenceLeases:
    """One lease per user. Times are milliseconds since 1970."""

    def __init__(self, store: RedisClient) -> None:
        self._store = store
        # Users with a connected socket, scored by the end of their lease.
        self._leases = store.key("presence")

    async def renew(self, user_ids: Collection[str], until: int) -> None:
        """Extend these users' leases to `until`."""
        if user_ids:
            await self._store.run(self._store.client.zadd(self._leases, dict.fromkeys(user_ids, until)))

    async def release(self, user_ids: Collection[str]) -> None:
        if user_ids:
            await self._store.run(self._store.client.zrem(self._leases, *user_ids))

    async def find_expired(self, at: int) -> list[tuple[str, int]]:
        """At most 1,000 users whose lease ended at or before `at`, each with its end."""
        found: list[tuple[bytes, float]] = await self._store.run(
            self._store.client.zrangebyscore(self._leases, "-inf", at, start=0, num=SWEEP_BATCH, withscores=True)
        )
        return [(user.decode(), int(until)) for user, until in found]
