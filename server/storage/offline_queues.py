"""Offline queues as Redis lists: entries in push order, each with the time of its own push."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from server.errors import Unusable
from server.storage.redis_store import RedisStore, code_of

SWEEP_BATCH: Final = 500
COMMANDS_PER_PUSH: Final = 3
STAMP_DIGITS: Final = 13

# Drops expired entries from the head of one queue and records its new head. KEYS: queue, heads. ARGV: cutoff, user.
_EXPIRE: Final = f"""
local dropped = 0
while true do
  local entry = redis.call('LINDEX', KEYS[1], 0)
  if not entry then
    redis.call('ZREM', KEYS[2], ARGV[2])
    return dropped
  end
  local pushed = tonumber(string.sub(entry, 1, {STAMP_DIGITS}))
  if pushed > tonumber(ARGV[1]) then
    redis.call('ZADD', KEYS[2], pushed, ARGV[2])
    return dropped
  end
  redis.call('LPOP', KEYS[1])
  dropped = dropped + 1
end
"""


class OfflineQueues:
    """One list per user. Times are milliseconds since 1970, payloads are opaque bytes."""

    def __init__(self, store: RedisStore, *, max_entries: int) -> None:
        self._store = store
        self._max_entries = max_entries
        # Users who have a queue, scored by the push time of its oldest entry, so that a sweep finds the expired
        # without a scan.
        self._heads = store.key("queues")
        self._expire: Any = store.client.register_script(_EXPIRE)

    @property
    def is_available(self) -> bool:
        return self._store.is_available

    async def wait_available(self) -> None:
        """Return once Redis answers."""
        await self._store.wait_available()

    async def push(self, payloads: Mapping[str, Sequence[tuple[int, bytes]]]) -> dict[str, str]:
        """Append to several users' queues in one round trip, each payload with the time from which it ages.

        Beyond the cap the oldest entries go. Says whose queues Redis refused to write, and its word for the reason.
        """
        pipeline = self._store.client.pipeline(transaction=False)
        for user_id, entries in payloads.items():
            key = self._key(user_id)
            pipeline.rpush(key, *(_stamp(at) + payload for at, payload in entries))
            pipeline.ltrim(key, -self._max_entries, -1)
            pipeline.zadd(self._heads, {user_id: entries[0][0]}, nx=True)
        answers = await self._store.run_each(pipeline)
        refused = {}
        for place, user_id in enumerate(payloads):
            for answer in answers[place * COMMANDS_PER_PUSH : (place + 1) * COMMANDS_PER_PUSH]:
                if isinstance(answer, Exception):
                    refused[user_id] = code_of(answer)
        return refused

    async def read(self, user_id: str, *, since: int) -> list[tuple[bytes, bytes]]:
        """The entries pushed after `since`, oldest first, as (entry, payload); the entry is its name for `remove`."""
        entries: list[bytes] = await self._store.run(self._store.client.lrange(self._key(user_id), 0, -1))
        return [(entry, entry[STAMP_DIGITS:]) for entry in entries if int(entry[:STAMP_DIGITS]) > since]

    async def remove(self, user_id: str, entries: Sequence[bytes]) -> None:
        pipeline = self._store.client.pipeline(transaction=False)
        for entry in entries:
            pipeline.lrem(self._key(user_id), 1, entry)
        await self._store.run(pipeline.execute())

    async def expire(self, cutoff: int) -> int:
        """Drop every entry pushed at or before `cutoff`, of all users; says how many went."""
        dropped = 0
        while True:
            users: list[bytes] = await self._store.run(
                self._store.client.zrangebyscore(self._heads, "-inf", cutoff, start=0, num=SWEEP_BATCH)
            )
            for user in users:
                key = self._key(user.decode())
                try:
                    dropped += await self._store.run(self._expire(keys=[key, self._heads], args=[cutoff, user]))
                except Unusable:
                    # What stands in its place is no queue: it must not keep the others from their turn.
                    await self._store.run(self._store.client.zrem(self._heads, user))
            if len(users) < SWEEP_BATCH:
                return dropped

    def _key(self, user_id: str) -> str:
        return self._store.key(f"queue:{user_id}")


def _stamp(at: int) -> bytes:
    return b"%0*d" % (STAMP_DIGITS, at)
