"""Offline queues as Redis lists: entries in push order, each with the time of its own push."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from server.errors import Unusable
from server.storage.redis_store import RedisStore, code_of

SWEEP_BATCH: Final = 500
COMMANDS_PER_PUSH: Final = 3
STAMP_DIGITS: Final = 13
# An entry is known by its beginning: the time of its push, and the id with which every queued message begins.
NAME_BYTES: Final = 64
# Of all users together: for whoever looks into what happened.
MOST_DAMAGED: Final = 100

# Drops expired entries from the head of one queue and records its new head; those that do not say when they were pushed
# are set aside. KEYS: queue, heads, damaged. ARGV: cutoff, user. Answers how many were dropped and set aside.
_EXPIRE: Final = f"""
local dropped, damaged = 0, 0
while true do
  local entry = redis.call('LINDEX', KEYS[1], 0)
  if not entry then
    redis.call('ZREM', KEYS[2], ARGV[2])
    return {{dropped, damaged}}
  end
  local pushed = tonumber(string.sub(entry, 1, {STAMP_DIGITS}))
  if not pushed then
    redis.call('RPUSH', KEYS[3], entry)
    redis.call('LTRIM', KEYS[3], -{MOST_DAMAGED}, -1)
    damaged = damaged + 1
  elseif pushed > tonumber(ARGV[1]) then
    redis.call('ZADD', KEYS[2], pushed, ARGV[2])
    return {{dropped, damaged}}
  else
    dropped = dropped + 1
  end
  redis.call('LPOP', KEYS[1])
end
"""

# Entries pushed after the cutoff, from behind a named one, or from the head where that has gone: at least one, and more
# as long as they take no more than so many bytes. KEYS: queue. ARGV: cutoff, bytes, name, the highest place that the
# named one may have, as entries only ever go from in front of it. Answers whether that was all, the place of the last
# one, and them.
_READ: Final = f"""
local index = 0
for place = tonumber(ARGV[4]), 0, -1 do
  local entry = redis.call('LINDEX', KEYS[1], place)
  if entry and string.sub(entry, 1, {NAME_BYTES}) == ARGV[3] then
    index = place + 1
    break
  end
end
local found, size = {{1, 0}}, 0
while true do
  local entry = redis.call('LINDEX', KEYS[1], index)
  if not entry then break end
  if (tonumber(string.sub(entry, 1, {STAMP_DIGITS})) or math.huge) > tonumber(ARGV[1]) then
    size = size + #entry
    if #found > 2 and size > tonumber(ARGV[2]) then
      found[1] = 0
      break
    end
    found[#found + 1] = entry
  end
  index = index + 1
end
found[2] = index - 1
return found
"""

# Removes entries by their names, from the head on, which is where they nearly always are. KEYS: queue. ARGV: the names.
_REMOVE: Final = f"""
local wanted, left, index = {{}}, #ARGV, 0
for _, name in ipairs(ARGV) do wanted[name] = (wanted[name] or 0) + 1 end
while left > 0 do
  local entry = redis.call('LINDEX', KEYS[1], index)
  if not entry then break end
  local name = string.sub(entry, 1, {NAME_BYTES})
  if (wanted[name] or 0) > 0 then
    wanted[name] = wanted[name] - 1
    left = left - 1
    redis.call('LSET', KEYS[1], index, '')
  end
  index = index + 1
end
redis.call('LREM', KEYS[1], #ARGV - left, '')
"""


class Entry(NamedTuple):
    """`name` is what `remove` and `Place` know it by."""

    name: bytes
    payload: bytes


class Place(NamedTuple):
    """Behind the entry of this name, which stands at the index `highest` or nearer to the head."""

    name: bytes
    highest: int


class Slice(NamedTuple):
    """Some entries of one queue, oldest first; `end` is the index of the last one."""

    entries: list[Entry]
    end: int
    is_last: bool


class Expired(NamedTuple):
    """How many entries were too old, and how many could not be read and were set aside."""

    dropped: int
    damaged: int


class OfflineQueues:
    """One list per user. Times are milliseconds since 1970.

    Payloads are opaque, but for their beginnings, by which entries of the same time are told apart.
    """

    def __init__(self, store: RedisStore, *, max_entries: int) -> None:
        self._store = store
        self._max_entries = max_entries
        # Users who have a queue, scored by the push time of its oldest entry, so that a sweep finds the expired
        # without a scan.
        self._heads = store.key("queues")
        self._damaged = store.key("damaged_entries")
        self._expire: Any = store.client.register_script(_EXPIRE)
        self._read: Any = store.client.register_script(_READ)
        self._remove: Any = store.client.register_script(_REMOVE)

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

    async def read(self, user_id: str, *, since: int, most_bytes: int, after: Place | None = None) -> Slice:
        """Entries pushed after `since`: one, or more that take at most `most_bytes` together.

        They begin behind `after`, or with the oldest where that entry has left the queue.
        """
        name, highest = after or (b"", -1)
        found = await self._store.run(self._read(keys=[self._key(user_id)], args=[since, most_bytes, name, highest]))
        is_last, end, *entries = found
        return Slice([Entry(entry[:NAME_BYTES], entry[STAMP_DIGITS:]) for entry in entries], end, is_last=bool(is_last))

    async def remove(self, user_id: str, names: Sequence[bytes]) -> None:
        await self._store.run(self._remove(keys=[self._key(user_id)], args=names))

    async def set_aside(self, user_id: str, entries: Sequence[Entry]) -> None:
        """Take damaged entries off a queue and keep them where nobody is given them."""
        pipeline = self._store.client.pipeline(transaction=False)
        pipeline.rpush(self._damaged, *(entry.name[:STAMP_DIGITS] + entry.payload for entry in entries))
        pipeline.ltrim(self._damaged, -MOST_DAMAGED, -1)
        await self._store.run_each(pipeline)
        await self.remove(user_id, [entry.name for entry in entries])

    async def expire(self, cutoff: int) -> Expired:
        """Drop every entry pushed at or before `cutoff`, of all users."""
        dropped = damaged = 0
        while True:
            users: list[bytes] = await self._store.run(
                self._store.client.zrangebyscore(self._heads, "-inf", cutoff, start=0, num=SWEEP_BATCH)
            )
            for user in users:
                keys = [self._key(user.decode()), self._heads, self._damaged]
                try:
                    counts = await self._store.run(self._expire(keys=keys, args=[cutoff, user]))
                except Unusable:
                    # What stands in its place is no queue: it must not keep the others from their turn.
                    await self._store.run(self._store.client.zrem(self._heads, user))
                else:
                    dropped, damaged = dropped + counts[0], damaged + counts[1]
            if len(users) < SWEEP_BATCH:
                return Expired(dropped, damaged)

    def _key(self, user_id: str) -> str:
        return self._store.key(f"queue:{user_id}")


def _stamp(at: int) -> bytes:
    return b"%0*d" % (STAMP_DIGITS, at)
