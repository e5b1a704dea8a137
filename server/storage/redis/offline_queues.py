"""Offline queues as Redis lists: entries in the order of enqueueing, each with its timestamp."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from server.errors import Unusable
from server.storage.redis.client import RedisClient, code_of

SWEEP_BATCH: Final = 500
STAMP_DIGITS: Final = 13
# The name of an entry is its prefix: the timestamp, and the id with which every payload begins.
NAME_BYTES: Final = 64
# Damaged entries kept for analysis, of all users together.
MAX_DAMAGED: Final = 100

# Appends to one queue and drops the oldest beyond its limits, but never the newest. KEYS: queue, heads, sizes. ARGV:
# user, most entries, most bytes, the time of the first new entry, the entries.
_ENQUEUE: Final = """
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

# Drops expired entries from the head of one queue and records its new head; entries without a timestamp are set aside.
# KEYS: queue, heads, damaged, sizes. ARGV: cutoff, user. Returns how many were dropped and set aside. A full Redis
# refuses to record a head if nothing was dropped; the next sweep tries again.
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
    redis.call('LTRIM', KEYS[3], -{MAX_DAMAGED}, -1)
    damaged = damaged + 1
  end
end
return {{dropped, damaged}}
"""

# Reads entries newer than the cutoff, after the named entry, or from the head if that is gone: at least one, and more
# up to a number of bytes. KEYS: queue, epoch. ARGV: cutoff, bytes, name, the highest possible index of the named entry
# (it never rises, as entries are appended at the end). Returns the epoch of the queues, whether the end was reached,
# the index of the last entry, and the entries.
_READ: Final = f"""
local index = 0
for place = tonumber(ARGV[4]), 0, -1 do
  local entry = redis.call('LINDEX', KEYS[1], place)
  if entry and string.sub(entry, 1, {NAME_BYTES}) == ARGV[3] then
    index = place + 1
    break
  end
end
local found, size = {{redis.call('GET', KEYS[2]), 1, 0}}, 0
while true do
  local entry = redis.call('LINDEX', KEYS[1], index)
  if not entry then break end
  if (tonumber(string.sub(entry, 1, {STAMP_DIGITS})) or math.huge) > tonumber(ARGV[1]) then
    size = size + #entry
    if #found > 3 and size > tonumber(ARGV[2]) then
      found[2] = 0
      break
    end
    found[#found + 1] = entry
  end
  index = index + 1
end
found[3] = index - 1
return found
"""

# Removes entries by name, searching from the head, where they nearly always are. It uses commands that a full Redis
# allows. KEYS: queue, sizes. ARGV: user, the names.
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
    """One queued message. `name` identifies it in `remove` and `Place`."""

    name: bytes
    payload: bytes


class Place(NamedTuple):
    """The position after the entry `name`, whose index is at most `highest`."""

    name: bytes
    highest: int


class Slice(NamedTuple):
    """Some entries of one queue, oldest first; `end` is the index of the last one.

    `epoch` is that of all queues at this moment, None if it is not set.
    """

    epoch: str | None
    entries: list[Entry]
    end: int
    is_last: bool


class Expired(NamedTuple):
    """The numbers of expired entries, and of damaged ones that were set aside."""

    dropped: int
    damaged: int


class OfflineQueues:
    """One list per user. Times are milliseconds since 1970.

    Payloads are opaque, but their first bytes must distinguish entries with the same timestamp.
    """

    def __init__(self, store: RedisClient, *, max_entries: int, max_bytes: int) -> None:
        self._store = store
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        # Users with a queue, scored by the timestamp of its oldest entry, so that a sweep needs no scan.
        self._heads = store.key("queues")
        self._damaged = store.key("damaged_entries")
        # Bytes in the queue of each user; counted again if missing.
        self._sizes = store.key("queue_bytes")
        self._epoch = store.key("queues_epoch")
        self._expire: Any = store.client.register_script(_EXPIRE)
        self._read: Any = store.client.register_script(_READ)
        self._remove: Any = store.client.register_script(_REMOVE)

    @property
    def is_available(self) -> bool:
        return self._store.is_available

    @property
    def losses(self) -> int:
        """How often Redis has become unavailable."""
        return self._store.losses

    async def wait_available(self) -> None:
        """Return when Redis is available."""
        await self._store.wait_available()

    async def read_epoch(self) -> str | None:
        """The epoch that the queues belong to; None if it is not set. Raises `Unavailable`."""
        found: bytes | None = await self._store.run(self._store.client.get(self._epoch))
        return _decode_epoch(found)

    async def set_epoch(self, epoch: str) -> None:
        await self._store.run(self._store.client.set(self._epoch, epoch))

    async def clear(self) -> None:
        """Delete all queues."""
        while users := await self._store.run(self._store.client.zrange(self._heads, 0, SWEEP_BATCH - 1)):
            keys = [self._sizes, *(self._key(user.decode()) for user in users)]
            await self._store.run(self._store.client.delete(*keys))
            await self._store.run(self._store.client.zrem(self._heads, *users))

    async def enqueue(self, payloads: Mapping[str, Sequence[tuple[int, bytes]]]) -> dict[str, str]:
        """Append `(timestamp, payload)` pairs to the queues of several users in one round trip.

        Beyond the limits of entries and bytes, the oldest entries are dropped. Returns the users whose queues Redis
        refused to write, with its error codes.
        """
        pipeline = self._store.client.pipeline(transaction=False)
        for user_id, entries in payloads.items():
            keys = self._key(user_id), self._heads, self._sizes
            limits = user_id, self._max_entries, self._max_bytes, entries[0][0]
            pipeline.eval(_ENQUEUE, len(keys), *keys, *limits, *(_stamp(at) + payload for at, payload in entries))
        answers = zip(payloads, await self._store.run_each(pipeline), strict=True)
        return {user_id: code_of(answer) for user_id, answer in answers if isinstance(answer, Exception)}

    async def read(self, user_id: str, *, since: int, most_bytes: int, after: Place | None = None) -> Slice:
        """Entries newer than `since`: at least one if there is any, and more up to `most_bytes` in total.

        They begin after `after`, or with the oldest if that entry has left the queue.
        """
        name, highest = after or (b"", -1)
        keys = [self._key(user_id), self._epoch]
        found = await self._store.run(self._read(keys=keys, args=[since, most_bytes, name, highest]))
        epoch, is_last, end, *payloads = found
        entries = [Entry(payload[:NAME_BYTES], payload[STAMP_DIGITS:]) for payload in payloads]
        return Slice(_decode_epoch(epoch), entries, end, is_last=bool(is_last))

    async def remove(self, user_id: str, names: Sequence[bytes]) -> None:
        await self._store.run(self._remove(keys=[self._key(user_id), self._sizes], args=[user_id, *names]))

    async def set_aside(self, user_id: str, entries: Sequence[Entry]) -> None:
        """Move damaged entries from a queue to the list of damaged entries, which is never delivered."""
        pipeline = self._store.client.pipeline(transaction=False)
        pipeline.rpush(self._damaged, *(entry.name[:STAMP_DIGITS] + entry.payload for entry in entries))
        pipeline.ltrim(self._damaged, -MAX_DAMAGED, -1)
        await self._store.run_each(pipeline)
        await self.remove(user_id, [entry.name for entry in entries])

    async def expire(self, cutoff: int) -> Expired:
        """Drop all entries with a timestamp at or before `cutoff`, of all users."""
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
                    # The key is not a queue: skip it, so that the sweep goes on.
                    await self._store.run(self._store.client.zrem(self._heads, user))
                else:
                    dropped, damaged = dropped + counts[0], damaged + counts[1]
            if len(users) < SWEEP_BATCH:
                return Expired(dropped, damaged)

    def _key(self, user_id: str) -> str:
        return self._store.key(f"queue:{user_id}")


def refer(room_id: str, seq: int, size: int | None = None) -> bytes:
    """The payload of an entry that refers to a message in the log, with the bytes that it takes to send if known.

    `seq` comes first, as it distinguishes entries.
    """
    if size is None:
        return b'{"seq":%d,"roomId":"%s"}' % (seq, room_id.encode())
    return b'{"seq":%d,"roomId":"%s","size":%d}' % (seq, room_id.encode(), size)


def _decode_epoch(found: bytes | None) -> str | None:
    return None if found is None else found.decode("utf-8", "replace")


def _stamp(at: int) -> bytes:
    return b"%0*d" % (STAMP_DIGITS, at)
