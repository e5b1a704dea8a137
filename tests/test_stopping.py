"""SIGTERM while a store is unavailable: the server exits with code 0, and nothing acknowledged is lost."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pytest
import redis
import socketio

from tests.conftest import StartServer
from tests.support.device import NAMESPACE, TRANSPORTS
from tests.support.people import Town
from tests.support.ports import free_port
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


@pytest.mark.embedded_stores
async def test_a_redis_that_takes_nothing(start_server: StartServer, town_at: OpenTown) -> None:
    server = start_server(PATIENT)
    one, other, room_id = await town_at(server).pair()
    password = (server.data_dir / "redis_password").read_text().strip()
    with redis.Redis(unix_socket_path=str(server.data_dir / "redis" / "redis.sock"), password=password) as full:
        full.config_set("maxmemory", 1)
    await one.send(room_id, "waits")

    async def is_refused() -> bool:
        return "store full store=redis" in server.log()

    await eventually(is_refused, "Redis refuses to queue")
    await asyncio.to_thread(server.stop)
    server.restart()
    assert await offline_batch(town_at(server), other) == ["waits"]


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_clients_come_back_by_themselves(
    start_server: StartServer, town_at: OpenTown, transports: tuple[str, ...]
) -> None:
    port = free_port()
    server = start_server({"server.port": port})
    person = await town_at(server).person()
    # Its own would be left open by tries that fail.
    session = aiohttp.ClientSession()
    client = socketio.AsyncClient(
        reconnection_delay=0.1, reconnection_delay_max=0.5, handle_sigint=False, http_session=session
    )
    reasons: list[str] = []
    client.on("exception", lambda error: reasons.append(error["code"]), namespace=NAMESPACE)
    try:
        await client.connect(
            server.url, auth={"token": person.access_token}, transports=list(transports), namespaces=[NAMESPACE]
        )
        first = client.get_sid(NAMESPACE)
        await asyncio.to_thread(server.stop)
        server.restart()

        async def is_back() -> bool:
            return client.connected and client.get_sid(NAMESPACE) not in (None, first)

        await eventually(is_back, "the client has connected again")
        assert (await client.call("presence:get", {"userIds": []}, namespace=NAMESPACE))["ok"]
        assert reasons == ["UNAVAILABLE"]
    finally:
        await client.shutdown()
        await session.close()


@pytest.mark.embedded_stores
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
