"""What a replica set answers in trouble, played by `tests/support/replica_set.py` between the server and its store.

No message that was acknowledged is lost, none is there twice, whoever is refused is told `UNAVAILABLE`, and the server
goes on by itself.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.conftest import StartServer
from tests.support.device import Device
from tests.support.own_stores import stores_in
from tests.support.people import Person, Town
from tests.support.replica_set import TROUBLES, ReplicaSet, Trouble, replica_set
from tests.support.rest import MESSAGES
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

ELECTION_SECONDS = 12.0
BEHIND_SECONDS = 2.0
BURST = 3
PAUSE = 0.1  # before a refused send is tried again
BACK = 60.0
READ_TROUBLES = (("ReadConcernMajorityNotAvailableYet", 134), ("NotPrimaryNoSecondaryOk", 13435))


def stores_messages(command: dict[str, Any]) -> bool:
    return command.get("insert") == "messages"


def stores_marks(command: dict[str, Any]) -> bool:
    return command.get("update") == "members"


def reads_messages(command: dict[str, Any]) -> bool:
    return command.get("find") == "messages"


class Pair:
    """Two people who are connected, what one of them means to say, and what was acknowledged of it."""

    def __init__(self, sender: Person, room_id: str, speaking: Device, hearing: Device) -> None:
        self.sender = sender
        self.room_id = room_id
        self.speaking = speaking
        self.hearing = hearing
        self.acked: dict[str, int] = {}
        self.refused = 0

    async def say(self, content: str) -> None:
        """Send it under one id until it is acknowledged."""
        payload = {"roomId": self.room_id, "content": content, "clientMessageId": content}
        async with asyncio.timeout(BACK):
            while not (ack := await self.speaking.call("message:send", payload))["ok"]:
                assert ack["error"]["code"] == "UNAVAILABLE", ack
                self.refused += 1
                await asyncio.sleep(PAUSE)
        self.acked[content] = ack["message"]["seq"]

    async def say_some(self, name: str) -> None:
        await asyncio.gather(*(self.say(f"{name} {number}") for number in range(BURST)))

    async def check(self) -> None:
        """The log holds each once, where it was acknowledged, and the other has heard each live, once."""
        page = await self.sender.history(self.room_id, limit=200)
        stored = [(message["content"], message["seq"]) for message in reversed(page["messages"])]
        assert stored == sorted(self.acked.items(), key=lambda item: item[1])
        assert [seq for _, seq in stored] == list(range(1, len(stored) + 1))

        async def is_heard() -> bool:
            return len(self.hearing.heard("message:new")) >= len(stored)

        await eventually(is_heard, "all is heard")
        assert [(message["content"], message["seq"]) for message in self.hearing.heard("message:new")] == stored


@asynccontextmanager
async def a_pair_on_a_replica_set(
    folder: Path, start_server: StartServer, town_at: Callable[[ServerProcess], Town]
) -> AsyncIterator[tuple[ReplicaSet, Pair]]:
    async with stores_in(folder) as addresses, replica_set(addresses.mongodb_uri) as played:
        settings = {"mongodb.uri": played.address, "redis.url": addresses.redis_url}
        server = await asyncio.to_thread(start_server, settings)
        town = town_at(server)
        one, other, room_id = await town.pair()
        pair = Pair(one, room_id, await one.connect(), await other.connect())
        yield played, pair
        await pair.check()
        await town.close()
        await asyncio.to_thread(server.stop)


async def test_each_answer_of_a_set_in_trouble(
    tmp_path: Path, start_server: StartServer, town_at: Callable[[ServerProcess], Town]
) -> None:
    async with a_pair_on_a_replica_set(tmp_path, start_server, town_at) as (played, pair):
        for trouble in TROUBLES:
            played.strike(trouble, stores_messages, times=2)

            async def has_struck() -> bool:
                await pair.say_some(f"{trouble} {played.struck}")  # noqa: B023 (called before the next one)
                return not played.is_armed

            await eventually(has_struck, f"{trouble} twice", BACK)
            await pair.say_some(f"after {trouble}")


async def test_a_mark_is_acknowledged_once_a_majority_holds_it(
    tmp_path: Path, start_server: StartServer, town_at: Callable[[ServerProcess], Town]
) -> None:
    async with a_pair_on_a_replica_set(tmp_path, start_server, town_at) as (played, pair):
        for trouble in TROUBLES:
            await pair.say(f"{trouble}")
            heard = await pair.hearing.next("message:new")
            played.strike(trouble, stores_marks)
            async with asyncio.timeout(BACK):
                while not (ack := await pair.hearing.call("message:read", {"messageId": heard["messageId"]}))["ok"]:
                    assert ack["error"]["code"] == "UNAVAILABLE", ack
                    await asyncio.sleep(PAUSE)
            assert (ack["seq"], ack["unreadCount"]) == (heard["seq"], 0)


async def test_a_read_is_refused_until_a_majority_can_be_asked(
    tmp_path: Path, start_server: StartServer, town_at: Callable[[ServerProcess], Town]
) -> None:
    async with a_pair_on_a_replica_set(tmp_path, start_server, town_at) as (played, pair):
        await pair.say("x")
        for name, code in READ_TROUBLES:
            # The driver asks a second time by itself.
            played.strike(Trouble("before", name, code), reads_messages, times=2)
            answers = []
            async with asyncio.timeout(BACK):
                while not answers or answers[-1].status != 200:
                    answers.append(await pair.sender.get(f"{MESSAGES}/chats/{pair.room_id}/messages"))
                    await asyncio.sleep(PAUSE)
            assert not played.is_armed
            assert {(answer.status, answer.body["code"]) for answer in answers[:-1]} == {(503, "UNAVAILABLE")}


async def test_an_election(tmp_path: Path, start_server: StartServer, town_at: Callable[[ServerProcess], Town]) -> None:
    async with a_pair_on_a_replica_set(tmp_path, start_server, town_at) as (played, pair):
        await pair.say_some("before")
        played.strike(Trouble("after"), stores_messages)
        saying = asyncio.ensure_future(pair.say_some("meanwhile"))

        async def has_struck() -> bool:
            return not played.is_armed

        await eventually(has_struck, "one write was carried out, and nobody heard of it")
        played.step_down()
        asyncio.get_running_loop().call_later(ELECTION_SECONDS, played.elect)
        await saying
        assert pair.refused
        await pair.say_some("after")


async def test_what_a_majority_does_not_hold_yet_is_not_acknowledged(
    tmp_path: Path, start_server: StartServer, town_at: Callable[[ServerProcess], Town]
) -> None:
    """It stands on the primary alone, where it stops the same message from being stored again."""
    hidden: list[str] = []

    async with a_pair_on_a_replica_set(tmp_path, start_server, town_at) as (played, pair):

        def hide(command: dict[str, Any]) -> bool:
            if not stores_messages(command):
                return False
            hidden.extend(document["_id"] for document in command["documents"])
            played.hide(hidden)
            return True

        played.strike(Trouble("beside", "WriteConcernTimeout", 64), hide)
        saying = asyncio.ensure_future(pair.say("waits"))

        async def is_hidden() -> bool:
            return bool(hidden)

        await eventually(is_hidden, "it is on the primary")
        done, _ = await asyncio.wait([saying], timeout=BEHIND_SECONDS)
        assert not done
        played.replicate()
        await saying
        await pair.say("after")
