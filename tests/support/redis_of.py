"""The Redis that a server under test uses, embedded or named, and the names of its keys."""

import redis

from server.storage.stores import redis_prefix
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually


def redis_of(server: ServerProcess) -> "redis.Redis":
    url = server.settings.get("redis.url")
    if isinstance(url, str):
        return redis.Redis.from_url(url)
    password = (server.data_dir / "redis_password").read_text().strip()
    return redis.Redis(unix_socket_path=str(server.data_dir / "redis" / "redis.sock"), password=password)


def key_of(server: ServerProcess, name: str) -> str:
    """The whole name of a key, e.g. of `queues`."""
    return f"{redis_prefix(str(server.settings.get('mongodb.database', 'madang')))}:{name}"


async def until_queued(keys: "redis.Redis", queue: str, count: int) -> None:
    """Return once `count` messages are on an offline queue. They are acknowledged before that."""

    async def are_queued() -> bool:
        return keys.llen(queue) == count

    await eventually(are_queued, f"{count} messages on {queue}")
