"""SIGTERM while a store is away: the server ends by itself, with exit code 0, and nothing acknowledged is lost."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import redis

from tests.conftest import StartServer
from tests.support.people import Town
from tests.support.rest import MESSAGES
from tests.support.server_process import ServerProcess
from tests.support.shapes import check_problem
from tests.support.waiting import eventually

# Far above the time that a stop may take: nothing ends only because it is broken off.
PATIENT = {"server.shutdown_timeout": "5m"}
OpenTown = Callable[[ServerProcess], Town]


@contextlib.contextmanager
def frozen(server: ServerProcess, *names: str) -> Iterator[None]:
    """Children that do not answer; the server ends them the hard way."""
    processes = [int((server.data_dir / "run" / name).read_text()) for name in names]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


async def offline_batch(town: Town, person: Any) -> list[str]:
    device = await town.resident(person).connect()
    return [message["content"] for message in await device.next("messages:offline")]


async def test_a_redis_that_takes_nothing(start_server: StartServer, town_at: OpenTown) -> None:
    server = start_server(PATIENT)
    one, other, room_id = await town_at(server).pair()
    password = (server.data_dir / "redis_password").read_text().strip()
    with redis.Redis(unix_socket_path=str(server.data_dir / "redis" / "redis.sock"), password=password) as full:
        full.config_set("maxmemory", 1)
    await one.send(room_id, "waits")

    async def is_refused() -> bool:
        return "Redis is away" in server.log()

    await eventually(is_refused, "Redis refuses to queue")
    await asyncio.to_thread(server.stop)
    server.restart()
    assert await offline_batch(town_at(server), other) == ["waits"]


async def test_silent_stores(start_server: StartServer, town_at: OpenTown) -> None:
    server = start_server(PATIENT)
    one, other, room_id = await town_at(server).pair()
    await one.send(room_id, "before")
    with frozen(server, "mongodb", "redis"):
        refused = await one.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": "then"})
        check_problem(refused, "UNAVAILABLE")
        await asyncio.to_thread(server.stop)
    server.restart()
    # What was refused may have been stored all the same.
    assert (await offline_batch(town_at(server), other))[0] == "before"
