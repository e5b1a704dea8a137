"""Consumers of the log: each sees every message at least once, in room order, through failures and kills."""

import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NO_LIMITS
from tests.support.named_stores import named_stores
from tests.support.people import Person, Town
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

Start = Callable[[Mapping[str, Mapping[str, object]]], "Watched"]
PROGRAM = (sys.executable, "-m", "tests.support.serve_with_consumers")


class Watched(ServerProcess):
    """A server with consumers, and what these have seen."""

    def __init__(self, folder: Path, consumers: Mapping[str, Mapping[str, object]]) -> None:
        super().__init__(folder, {**NO_LIMITS, **named_stores(folder)}, program=PROGRAM)
        self.folder = folder / "consumers"
        self.folder.mkdir()
        self.environment["CONSUMERS"] = str(self.folder)
        for name, asked in consumers.items():
            self.add(name, asked)

    def add(self, name: str, asked: Mapping[str, object]) -> None:
        """Takes effect at the next start."""
        (self.folder / f"{name}.json").write_text(json.dumps(asked))

    def close_consumer(self, name: str) -> None:
        (self.folder / f"{name}.closed").touch()

    def open_consumer(self, name: str) -> None:
        (self.folder / f"{name}.closed").unlink()

    def seen(self, name: str) -> dict[str, list[int]]:
        """The numbers of the messages that the consumer has seen, by room, as often as it has seen them.

        A line that a kill has cut off was not seen.
        """
        path = self.folder / f"{name}.seen"
        by_room: dict[str, list[int]] = defaultdict(list)
        for line in path.read_text().splitlines() if path.exists() else ():
            room_id, seq, _content = line.split(" ", 2)
            by_room[room_id].append(int(seq))
        return by_room

    async def wait_seen(self, name: str, ends: Mapping[str, int]) -> None:
        """Return once the consumer has seen everything up to these ends. Nothing may have been passed over."""

        async def has_seen_all() -> bool:
            seen = self.seen(name)
            return all(max(seen[room_id], default=0) >= end for room_id, end in ends.items())

        await eventually(has_seen_all, f"{name} has seen everything")
        for room_id, seqs in self.seen(name).items():
            reached = 0
            for seq in seqs:
                assert seq <= reached + 1, f"room {room_id}: {seq} came when {reached} was the last"
                reached = max(reached, seq)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Watched] = []

    def start_one(consumers: Mapping[str, Mapping[str, object]]) -> Watched:
        started.append(Watched(tmp_path, consumers))
        started[-1].start()
        return started[-1]

    try:
        yield start_one
        for server in started:
            server.stop()
    finally:
        for server in started:
            server.kill()


async def rooms_of(one: Person, other: Person, count: int) -> list[str]:
    return [await one.open_room(other, booking_id=f"booking {number}") for number in range(count)]


async def ends_of(person: Person, room_ids: list[str]) -> dict[str, int]:
    return {room_id: (await person.room(room_id))["lastSeq"] for room_id in room_ids}


async def test_one_that_fails_at_random_sees_every_message_through_kills(start: Start, town_at: Any) -> None:
    server = start({"flaky": {"fails": 0.3}, "other": {"fails": 0.1}})
    town: Town = town_at(server)
    one, other, _ = await town.pair()
    room_ids = await rooms_of(one, other, 5)
    for _ in range(4):
        device = await one.connect()
        payloads = [{"roomId": room_ids[number % 5], "content": f"{number}"} for number in range(150)]
        calls = [asyncio.ensure_future(device.call("message:send", payload)) for payload in payloads]
        # In the middle of it.
        await asyncio.wait(calls[:75])
        server.kill()
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        server.start()
        town = town_at(server)
        one = town.resident(one)
    ends = await ends_of(one, room_ids)
    assert sum(ends.values()) >= 4
    await server.wait_seen("flaky", ends)
    await server.wait_seen("other", ends)


async def test_a_new_one_begins_with_the_oldest_and_goes_on_after_a_kill(start: Start, town_at: Any) -> None:
    server = start({})
    one, other, _ = await town_at(server).pair()
    room_ids = await rooms_of(one, other, 120)
    for room_id in room_ids:
        await one.send(room_id)
    server.stop()
    server.add("late", {"fails": 0.3})
    server.start()

    async def has_begun() -> bool:
        return len(server.seen("late")) >= 10

    await eventually(has_begun, "it has begun")
    server.kill()
    server.start()
    town = town_at(server)
    await town.resident(one).send(room_ids[0], "live")
    await server.wait_seen("late", {**dict.fromkeys(room_ids, 1), room_ids[0]: 2})


async def test_one_that_cannot_get_past_a_message_delays_no_other_room_and_no_other(start: Start, town_at: Any) -> None:
    server = start({"strict": {"refuses": "poison"}, "other": {}})
    one, other, room_id = await town_at(server).pair()
    healthy = await rooms_of(one, other, 3)
    device = await other.connect()
    await one.send(room_id, "before")
    await one.send(room_id, "poison")
    for number in range(20):
        await one.send(healthy[number % 3], f"{number}")
    assert [(await device.next("message:new"))["content"] for _ in range(22)][1] == "poison"
    await server.wait_seen("strict", {room_id: 1, **await ends_of(one, healthy)})
    assert max(server.seen("strict")[room_id]) == 1
    await server.wait_seen("other", {room_id: 2, **await ends_of(one, healthy)})
    assert "log consumer failed consumer=strict" in server.log()


async def test_one_that_is_far_behind_looks_at_all_rooms_again(start: Start, town_at: Any) -> None:
    server = start({"closed": {"max_behind": 4}})
    one, other, _ = await town_at(server).pair()
    room_ids = await rooms_of(one, other, 30)
    for room_id in room_ids:
        await one.send(room_id)
    server.close_consumer("closed")
    for room_id in room_ids:
        await one.send(room_id)
    server.kill()
    server.start()
    one = town_at(server).resident(one)
    for room_id in room_ids:
        await one.send(room_id)
    server.open_consumer("closed")
    await server.wait_seen("closed", dict.fromkeys(room_ids, 3))
