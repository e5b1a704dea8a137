"""A server whose wall clock is set forward or back: nobody is disconnected, and pings still confirm deliveries."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.people import Person, Town
from tests.support.poller import Poller
from tests.support.raw_socket import RawSocket
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

SETTINGS = {"socket.ping_interval": "200ms", "auth.access_ttl": "24h", "limits.enabled": False}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path, SETTINGS, program=[sys.executable, "-m", "tests.support.stepping_clock"])
    process.start()
    yield process
    process.stop()


async def step(server: ServerProcess, number: signal.Signals, person: Person, room_id: str) -> None:
    """Set the server's clock; returns once its messages bear the new time."""
    os.kill(server.pid, number)

    async def is_set() -> bool:
        told = datetime.fromisoformat((await person.send(room_id))["timestamp"])
        return abs(told - datetime.now(UTC)) > timedelta(minutes=30)

    await eventually(is_set, "the clock is set")


async def answer_pings(raw: RawSocket, count: int) -> None:
    while count:
        if (await raw.frame()).payload == b"2":
            await raw.send("3")
            count -= 1


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2], ids=["forward", "back"])
async def test_a_step_of_the_clock_cuts_nobody(
    server: ServerProcess, town_at: Callable[[ServerProcess], Town], number: signal.Signals
) -> None:
    town = town_at(server)
    person, friend, room_id = await town.pair()
    silent, lively, poller = (
        await town.raw_chat(friend.access_token),
        await town.raw_chat(person.access_token),
        Poller(town),
    )
    await poller.begin(friend)
    while (await silent.frame()).payload != b"2":
        pass
    while "2" not in await poller.poll():
        pass
    await step(server, number, person, room_id)
    # Who is asked again has been looked at since, and everybody else with them.
    await answer_pings(lively, 2)
    await silent.send("3")
    assert (await silent.acked("presence:get", {"userIds": []}))["ok"]
    await poller.say("3", '42/chat,7["presence:get",{"userIds":[]}]')
    while not any(packet.startswith("43/chat,7") for packet in await poller.poll()):
        pass


async def test_a_ping_after_a_step_back_proves_what_came_before_it(
    server: ServerProcess, town_at: Callable[[ServerProcess], Town]
) -> None:
    town = town_at(server)
    person, friend, room_id = await town.pair()
    sender = await person.connect()
    await person.send(room_id, "waiting")
    raw = await town.raw_chat(friend.access_token)
    assert [message["content"] for message in await raw.event("messages:offline")] == ["waiting"]
    await step(server, signal.SIGUSR2, person, room_id)

    async def is_delivered() -> bool:
        await answer_pings(raw, 1)
        assert (await raw.acked("presence:get", {"userIds": []}))["ok"]
        return bool(sender.heard("message:delivered"))

    await eventually(is_delivered, "the batch is proven")
