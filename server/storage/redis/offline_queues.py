"""Offline queues as Redis lists: entries in push order, each with the time of its own push."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from server.errors import Unusable
from server.storage.redis.client import RedisClient, code_of

SWEEP_BATCH: Final = 500
STAMP_DIGITS: Final = 13
# An entry is known by its beginning: the time of its push, and the id with which every queued message begins.
NAME_BYTES: Final = 64
# Of all users together: for whoever looks into what happened.
MOST_DAMAGED: Final = 100

# Appends to one queue and drops the oldest beyond its bounds, but never the newest. KEYS: queue, heads, sizes. ARGV:
# user, most entries, most bytes, the time of the first new entry, the entries.
_PUSH: Final = """
local size = 0
if redis.call('EXISTS', KEYS[1]) == 1 then
  size = tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or '')
  if not size then
    size = 0
    for _, entry in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do size = size + #entry end
  end
end
local length = redis.call('RPUSH', KEYS[1], unpack(ARGV, 5))
for place = 5, #ARGV do size = size + #ARGV[place] end
while length > tonumber(ARGV[2]) or (size > tonumber(ARGV[3]) and length > 1) do
  size = size - #redis.call('LPOP', KEYS[1])
  length = length - 1
end
redis.call('ZADD', KEYS[2], 'NX', ARGV[4], ARGV[1])
redis.call('HSET', KEYS[3], ARGV[1], size)
"""

# Drops expired entries from the head of one queue and records its new head; those that do not say when they were pushed
# are set aside. KEYS: queue, heads, damaged, sizes. ARGV: cutoff, user. Answers how many were dropped and set aside.
# A Redis that is full refuses to record a head where nothing was dropped: it is looked at again.
_EXPIRE: Final = f"""
local dropped, damaged, size = 0, 0, 0
while true do
  local entry = redis.call('LINDEX', KEYS[1], 0)
  local pushed = entry and tonumber(string.sub(entry, 1, {STAMP_DIGITS}))
  if not entry then
    redis.call('ZREM', KEYS[2], ARGV[2])
    redis.call('HDEL', KEYS[4], ARGV[2])
    break
  elseif pushed and pushed > tonumber(ARGV[1]) then
    if redis.call('HEXISTS', KEYS[4], ARGV[2]) == 1 and size > 0 then
      redis.call('HINCRBY', KEYS[4], ARGV[2], -size)
    end
    redis.pcall('ZADD', KEYS[2], pushed, ARGV[2])
    break
  end
  redis.call('LPOP', KEYS[1])
  size = size + #entry
  if pushed then
    dropped = dropped + 1
  else
    redis.call('RPUSH', KEYS[3], entry)
    redis.call('LTRIM', KEYS[3], -{MOST_DAMAGED}, -1)
    damaged = damaged + 1
  end
end
return {{dropped, damaged}}
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

# Removes entries by their names, from the head on, which is where they nearly always are, and with commands that a full
# Redis allows. KEYS: queue, sizes. ARGV: user, the names.
_REMOVE: Final = f"""
local wanted, left, index, size = {{}}, #ARGV - 1, 0, 0
for place = 2, #ARGV do wanted[ARGV[place]] = (wanted[ARGV[place]] or 0) + 1 end
while left > 0 do
  local entry = redis.call('LINDEX', KEYS[1], index)
  if not entry then break end
  local name = string.sub(entry, 1, {NAME_BYTES})
  if (wanted[name] or 0) > 0 then
    wanted[name] = wanted[name] - 1
    left = left - 1
    size = size + #entry
    redis.call('LREM', KEYS[1], 1, entry)
  else
    index = index + 1
  end
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HDEL', KEYS[2], ARGV[1])
elseif size > 0 and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
  redis.call('HINCRBY', KEYS[2], ARGV[1], -size)
end
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

    def __init__(self, store: RedisClient, *, max_entries: int, max_bytes: int) -> None:
        self._store = store
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        # Users who have a queue, scored by the push time of its oldest entry, so that a sweep finds the expired
        # without a scan.
        self._heads = store.key("queues")
        self._damaged = store.key("damaged_entries")
        # How many bytes the entries of each user have; counted anew where it is missing.
        self._sizes = store.key("queue_bytes")
        self._epoch = store.key("queues_epoch")
        self._expire: Any = store.client.register_script(_EXPIRE)
        self._read: Any = store.client.register_script(_READ)
        self._remove: Any = store.client.register_script(_REMOVE)

    @property
    def is_available(self) -> bool:
        return self._store.is_available

    async def wait_available(self) -> None:
        """Return once Redis answers."""
        await self._store.wait_available()

    async def read_epoch(self) -> str | None:
        """The name of the history that the queues belong to; None where nothing says so. Raises `Unavailable`."""
        found: bytes | None = await self._store.run(self._store.client.get(self._epoch))
        return None if found is None else found.decode("utf-8", "replace")

    async def set_epoch(self, epoch: str) -> None:
        await self._store.run(self._store.client.set(self._epoch, epoch))

    async def clear(self) -> None:
        """Drop all queues."""
        while users := await self._store.run(self._store.client.zrange(self._heads, 0, SWEEP_BATCH - 1)):
            keys = [self._sizes, *(self._key(user.decode()) for user in users)]
            await self._store.run(self._store.client.delete(*keys))
            await self._store.run(self._store.client.zrem(self._heads, *users))

    async def enqueue(self, payloads: Mapping[str, Sequence[tuple[int, bytes]]]) -> dict[str, str]:
        """Append to several users' queues in one round trip, each payload with the time from which it ages.

        Beyond the bounds of entries and of bytes the oldest go.
        Says whose queues Redis refused to write, and its word for the reason.
        """
        pipeline = self._store.client.pipeline(transaction=False)
        for user_id, entries in payloads.items():
            keys = self._key(user_id), self._heads, self._sizes
            bounds = user_id, self._max_entries, self._max_bytes, entries[0][0]
            pipeline.eval(_PUSH, len(keys), *keys, *bounds, *(_stamp(at) + payload for at, payload in entries))
        answers = zip(payloads, await self._store.run_each(pipeline), strict=True)
        return {user_id: code_of(answer) for user_id, answer in answers if isinstance(answer, Exception)}

    async def read(self, user_id: str, *, since: int, most_bytes: int, after: Place | None = None) -> Slice:
        """Entries pushed after `since`: one, or more that take at most `most_bytes` together.

        They begin behind `after`, or with the oldest where that entry has left the queue.
        """
        name, highest = after or (b"", -1)
        found = await self._store.run(self._read(keys=[self._key(user_id)], args=[since, most_bytes, name, highest]))
        is_last, end, *entries = found
        return Slice([Entry(entry[:NAME_BYTES], entry[STAMP_DIGITS:]) for entry in entries], end, is_last=bool(is_last))

    async def remove(self, user_id: str, names: Sequence[bytes]) -> None:
        await self._store.run(self._remove(keys=[self._key(user_id), self._sizes], args=[user_id, *names]))

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
                keys = [self._key(user.decode()), self._heads, self._damaged, self._sizes]
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


def refer(room_id: str, seq: int) -> bytes:
    """The payload of an entry that refers to the log. The number comes first, as entries are told apart by that."""
    return b'{"seq":%d,"roomId":"%s"}' % (seq, room_id.encode())


def _stamp(at: int) -> bytes:
    return b"%0*d" % (STAMP_DIGITS, at)
