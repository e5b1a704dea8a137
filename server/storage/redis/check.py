"""Checks a Redis for each feature that the server requires, under scratch keys that are deleted afterwards."""

import secrets
import time
from typing import Any, Final

import redis.asyncio as redis
from redis import exceptions as redis_errors

from server.storage.findings import Differs, Finding, run_checks
from server.storage.redis.client import EVICTION_POLICY, NO_EVICTION

MIN_VERSION: Final = (6, 2)
MAX_CLOCK_SKEW: Final = 2.0
WAIT_SECONDS: Final = 5.0


async def check_redis(url: str, prefix: str) -> list[Finding]:
    """Run all checks. Writes only scratch keys below `prefix`."""
    client: Any = redis.Redis.from_url(url, socket_timeout=WAIT_SECONDS, socket_connect_timeout=WAIT_SECONDS)
    check = _RedisCheck(client, f"{prefix}:check:{secrets.token_hex(8)}")
    try:
        return await run_checks(
            "redis",
            {
                "answers": check.answers,
                "lists, sorted sets and keys that expire": check.data_types,
                "Lua": check.scripts,
                "evicts nothing": check.eviction,
                "outlives its own restart": check.persistence,
                "clock": check.clock,
            },
        )
    finally:
        await check.clean()
        await client.aclose(close_connection_pool=True)


class _RedisCheck:
    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._key = key
        self._has_answered = False

    async def answers(self) -> str:
        info = await self._client.info("server")
        self._has_answered = True
        version = str(info.get("redis_version", "0"))
        if tuple(int(part) for part in version.split(".")[:2]) < MIN_VERSION:
            raise Differs(f"version {version} is older than {'.'.join(map(str, MIN_VERSION))}")
        if info.get("redis_mode") == "cluster":
            raise Differs("it is a cluster; one server of Redis is what is supported")
        return ""

    async def data_types(self) -> str:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.rpush(f"{self._key}:list", b"1", b"2", b"3")
        pipeline.ltrim(f"{self._key}:list", -2, -1)
        pipeline.zadd(f"{self._key}:set", {b"a": 1}, nx=True)
        pipeline.pexpire(f"{self._key}:list", 60_000)
        pipeline.lrange(f"{self._key}:list", 0, -1)
        *_, expires, left = await pipeline.execute()
        if not expires or left != [b"2", b"3"]:
            raise Differs("lists are not kept as they were written")
        return ""

    async def scripts(self) -> str:
        script = self._client.register_script("redis.call('SET', KEYS[1], ARGV[1]) return {1, ARGV[1]}")
        if await script(keys=[f"{self._key}:script"], args=["x"]) != [1, b"x"]:
            raise Differs("a script is not answered as Redis does")
        return ""

    async def eviction(self) -> str:
        policy = await self._setting(EVICTION_POLICY)
        if policy is None:
            return f"it does not tell its {EVICTION_POLICY}, which must be {NO_EVICTION}"
        return "" if policy == NO_EVICTION else f"{policy}: offline queues may be evicted; set it to {NO_EVICTION}"

    async def persistence(self) -> str:
        append_only = await self._setting("appendonly")
        if append_only == "yes":
            return ""
        return "without appendonly yes, offline queues end with it; history and sync hold every message"

    async def clock(self) -> str:
        seconds, microseconds = await self._client.time()
        difference = abs(seconds + microseconds / 1e6 - time.time())
        if difference > MAX_CLOCK_SKEW:
            return f"its clock differs from this machine's by {difference:.1f} s; nothing depends on it"
        return ""

    async def clean(self) -> None:
        if self._has_answered:
            await self._client.delete(*(f"{self._key}:{name}" for name in ("list", "set", "script")))

    async def _setting(self, name: str) -> str | None:
        """The value of a setting; None if CONFIG is not permitted, as on many hosted servers."""
        try:
            found = await self._client.config_get(name)
        except redis_errors.ResponseError:
            return None
        value = found.get(name) or found.get(name.encode())
        return value.decode() if isinstance(value, bytes) else value
