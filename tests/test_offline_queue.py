"""The offline queue: delivered at least once, until acknowledged or confirmed; entries expire and are bounded."""

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.conftest import StartServer
from tests.support.device import Device
from tests.support.people import Person, Town
from tests.support.raw_socket import RawSocket
from tests.support.redis_of import key_of, redis_of, until_queued
from tests.support.rest import MESSAGES
from tests.support.server_process import ServerProcess
from tests.support.shapes import check_message
from tests.support.waiting import eventually, go_offline


async def batch_of(device: Device) -> list[dict[str, Any]]:
    batch = await device.next("messages:offline")
    for message in batch:
        check_message(message)
    return list(batch)


async def waits_for(person: Person, sender: Person, room_id: str) -> bool:
    """Whether a device that connects now is sent a batch. It has had time enough: a live message came through."""
    device = await person.connect(acks=False)
    marker = (await sender.send(room_id, "live"))["messageId"]
    await device.next("message:new", lambda message: message["messageId"] == marker)
    assert (await device.call("presence:get", {"userIds": [sender.id]}))["ok"]
    await device.leave()
    # Markers that were not confirmed come again themselves.
    return any(message["content"] != "live" for batch in device.heard("messages:offline") for message in batch)


async def test_a_connect_gets_everything_that_waited_once(town: Town) -> None:
    one, other, room_id = await town.pair()
    second_room = await one.open_room(other, "booking")
    for number in range(6):
        await one.send((room_id, second_room)[number % 2], f"{number}")
    device = await other.connect()
    batch = await batch_of(device)
    assert [m["content"] for m in batch if m["roomId"] == room_id] == ["0", "2", "4"]
    assert [m["content"] for m in batch if m["roomId"] == second_room] == ["1", "3", "5"]
    assert len(batch) == 6
    assert all(message["isRead"] is False and message["senderName"] == one.name for message in batch)
    await one.send(room_id, "live")
    await device.next("message:new")
    assert len(device.heard("messages:offline")) == 1
    assert [message["content"] for message in device.heard("message:new")] == ["live"]


async def test_a_batch_that_was_not_acknowledged_comes_again(town: Town) -> None:
    one, other, room_id = await town.pair()
    await one.send(room_id, "waiting")
    for _ in range(3):
        device = await other.connect(acks=False)
        assert [message["content"] for message in await batch_of(device)] == ["waiting"]
        await device.leave()


async def test_an_acknowledged_batch_is_gone_and_told_as_delivered(quick_town: Town) -> None:
    one, other, room_id = await quick_town.pair()
    sender = await one.connect()
    await one.send(room_id, "waiting")
    device = await other.connect()
    await batch_of(device)
    receipt = await sender.next("message:delivered")
    assert (receipt["roomId"], receipt["seq"], receipt["userId"]) == (room_id, 1, other.id)
    await go_offline(other, device, sender)

    async def gone() -> bool:
        return not await waits_for(other, one, room_id)

    await eventually(gone, "the acknowledged batch is gone")


async def test_a_ping_round_trip_proves_what_a_silent_client_got(quick_town: Town) -> None:
    one, other, room_id = await quick_town.pair()
    sender = await one.connect()
    await one.send(room_id, "waiting")
    raw = await quick_town.raw_chat(other.access_token)
    assert [message["content"] for message in await raw.event("messages:offline")] == ["waiting"]
    receipt = await _answering_pings(raw, sender)
    assert (receipt["roomId"], receipt["seq"], receipt["userId"]) == (room_id, 1, other.id)
    await raw.close()
    await sender.next("user:offline")

    async def gone() -> bool:
        return not await waits_for(other, one, room_id)

    await eventually(gone, "the proven batch is gone")


async def _answering_pings(raw: RawSocket, sender: Device) -> dict[str, Any]:
    """Answer pings, and nothing else, until the sender hears that the batch was delivered."""

    async def told() -> bool:
        while (await raw.frame()).payload != b"2":
            pass
        await raw.send("3")
        assert (await raw.acked("presence:get", {"userIds": []}))["ok"]
        return bool(sender.heard("message:delivered"))

    await eventually(told, "a proven batch is told as delivered")
    return dict(sender.heard("message:delivered")[0])


async def test_what_was_read_elsewhere_is_not_delivered_again(town: Town) -> None:
    one, other, room_id = await town.pair()
    sent = [await one.send(room_id, f"{number}") for number in range(3)]
    await other.post(f"{MESSAGES}/chats/{room_id}/read", {"messageId": sent[1]["messageId"]})
    device = await other.connect()
    assert [message["content"] for message in await batch_of(device)] == ["2"]


async def test_when_everything_was_read_elsewhere_nothing_comes(town: Town) -> None:
    one, other, room_id = await town.pair()
    message = await one.send(room_id)
    await other.post(f"{MESSAGES}/chats/{room_id}/read", {"messageId": message["messageId"]})
    assert not await waits_for(other, one, room_id)


async def test_a_senders_own_messages_do_not_wait_for_them(town: Town) -> None:
    one, other, room_id = await town.pair()
    await one.send(room_id)
    await other.send(room_id)
    assert [message["senderId"] for message in await batch_of(await one.connect())] == [other.id]


async def test_the_cap_drops_the_oldest_and_history_keeps_all(quick_town: Town) -> None:
    one, other, room_id = await quick_town.pair()
    for number in range(25):
        await one.send(room_id, f"{number}")
    device = await other.connect()
    assert [message["content"] for message in await batch_of(device)] == [f"{number}" for number in range(5, 25)]
    ack = await device.call("sync", {"rooms": {room_id: 0}})
    assert [message["content"] for message in ack["rooms"][0]["messages"]] == [f"{number}" for number in range(25)]


async def test_an_entry_dies_of_its_own_age_while_newer_ones_arrive(start_server: StartServer, town_at: Any) -> None:
    retention = 2.0
    server = start_server({"offline_queue.retention": f"{retention:g}s", "presence.grace": "100ms"})
    town: Town = town_at(server)
    one, other, room_id = await town.pair()
    sender = await one.connect()
    sending_began = time.monotonic()
    await one.send(room_id, "first")
    sending_ended = time.monotonic()
    rounds = 0

    async def first_has_died() -> bool:
        nonlocal rounds
        rounds += 1
        newest = f"newer {rounds}"
        await one.send(room_id, newest)
        fresh_until = time.monotonic() + retention
        looked_from = time.monotonic()
        device = await other.connect(acks=False)
        contents = [message["content"] for message in await batch_of(device)] if time.monotonic() < fresh_until else []
        looked_until = time.monotonic()
        await go_offline(other, device, sender)
        if looked_until < fresh_until:
            assert contents[-1] == newest
        if looked_until < sending_began + retention:
            assert contents[0] == "first", "it died early"
        if contents and looked_from > sending_ended + retention + 1:
            assert contents[0] != "first", "it outlived its time"
        return bool(contents) and contents[0] != "first"

    await eventually(first_has_died, "the first entry expired")
    assert rounds > 1
    assert (await other.history(room_id, after=0))["messages"][0]["content"] == "first"


async def test_entries_die_while_the_server_is_down(start_server: StartServer, town_at: Any) -> None:
    server = start_server({"offline_queue.retention": "1s"})
    one, other, room_id = await town_at(server).pair()
    await one.send(room_id, "old")
    sent = time.monotonic()
    server.kill()
    server.restart()
    town: Town = town_at(server)

    async def old_enough() -> bool:
        return time.monotonic() > sent + 1.1

    await eventually(old_enough, "a second has passed")
    assert not await waits_for(town.resident(other), town.resident(one), room_id)


@pytest.mark.embedded_stores
async def test_an_entry_ages_from_its_push_where_that_had_to_wait(start_server: StartServer, town_at: Any) -> None:
    retention = 3.0
    server = start_server({"offline_queue.retention": f"{retention:g}s"})
    one, other, room_id = await town_at(server).pair()
    redis = int((server.data_dir / "run" / "redis").read_text())
    os.kill(redis, signal.SIGSTOP)
    try:
        await one.send(room_id, "waiting")
        sent = time.monotonic()

        async def is_past_its_age() -> bool:
            return time.monotonic() > sent + retention

        await eventually(is_past_its_age, "the message is older than an entry may be")
        device = await other.connect()
    finally:
        os.kill(redis, signal.SIGCONT)
    assert [message["content"] for message in await batch_of(device)] == ["waiting"]


@pytest.mark.embedded_stores
async def test_who_connects_while_redis_is_away_gets_their_batch_when_it_is_back(
    start_server: StartServer, town_at: Any
) -> None:
    server = start_server()
    one, other, room_id = await town_at(server).pair()
    await one.send(room_id, "waiting")
    redis = int((server.data_dir / "run" / "redis").read_text())
    os.kill(redis, signal.SIGSTOP)
    try:
        first = await other.connect()

        async def is_missed() -> bool:
            return "store unavailable store=redis" in server.log()

        await eventually(is_missed, "the server misses Redis")
        second = await other.connect()
        await second.round_trip()
    finally:
        os.kill(redis, signal.SIGCONT)

    async def is_handed_over() -> bool:
        # To both, or to one that had acknowledged it when the other's turn came.
        return bool(first.heard("messages:offline") or second.heard("messages:offline"))

    await eventually(is_handed_over, "the batch comes")
    for device in first, second:
        for batch in device.heard("messages:offline"):
            assert [message["content"] for message in batch] == ["waiting"]


@pytest.mark.embedded_stores
@pytest.mark.parametrize("ending", ["SIGCONT", "SIGTERM", "SIGKILL"])
async def test_what_came_while_redis_was_away_is_handed_over(
    start_server: StartServer, town_at: Any, ending: str
) -> None:
    """Redis falls silent, messages come for somebody absent; then Redis is back, or the server ends before that."""
    server = start_server()
    one, other, room_id = await town_at(server).pair()
    await one.send(room_id, "before")
    redis = int((server.data_dir / "run" / "redis").read_text())
    os.kill(redis, signal.SIGSTOP)
    try:
        for number in range(3):
            await one.send(room_id, f"while away {number}")
        if ending == "SIGTERM":
            server.stop()
        elif ending == "SIGKILL":
            server.kill()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(redis, signal.SIGCONT)
    if ending != "SIGCONT":
        server.restart()
    town: Town = town_at(server)
    await town.resident(one).send(room_id, "after")
    device = await town.resident(other).connect()
    waited: list[str] = []
    while len(waited) < 5:
        waited += [message["content"] for message in await batch_of(device)]
    assert waited == ["before", "while away 0", "while away 1", "while away 2", "after"]


@pytest.mark.embedded_stores
async def test_a_key_of_a_wrong_kind_spoils_one_queue_and_no_other(start_server: StartServer, town_at: Any) -> None:
    server = start_server({"sweep.interval": "200ms", "mongodb.database": "yard"})
    town: Town = town_at(server)
    one, other, room_id = await town.pair()
    third = await town.person()
    third_room = await one.open_room(third)
    with redis_of(server) as keys:
        keys.set(f"madang:yard:queue:{other.id}", "x")
        sent = [(await one.send(room))["messageId"] for _ in range(2) for room in (room_id, third_room)]
        await (await other.connect()).round_trip()
        batch = await batch_of(await third.connect())
        assert [message["messageId"] for message in batch] == sent[1::2]
        # The spoiled one has its turn in the sweep before an expired one.
        keys.rpush("madang:yard:queue:somebody", f"{1:013}{{}}")
        keys.zadd("madang:yard:queues", {other.id: 0, "somebody": 1})

        async def is_expired() -> bool:
            return not keys.exists("madang:yard:queue:somebody")

        await eventually(is_expired, "the queue behind it is swept")
    assert server.log().count(f"offline queue not writable user={other.id} error=WRONGTYPE") == 1
    assert "store unavailable store=redis" not in server.log()
    server.stop()
    server.restart()
    assert "recovered after crash" not in server.log(), "what cannot be queued is settled"
    assert (await town_at(server).resident(other).room(room_id))["lastSeq"] == 2


@pytest.mark.embedded_stores
async def test_a_full_redis_makes_messages_wait(start_server: StartServer, town_at: Any) -> None:
    server = start_server()
    one, other, room_id = await town_at(server).pair()
    with redis_of(server) as keys:
        keys.config_set("maxmemory", 1)
        await one.send(room_id, "OOM waits")

        async def is_full() -> bool:
            return "store full store=redis" in server.log()

        await eventually(is_full, "Redis takes nothing")
        assert not keys.exists(f"madang:madang:queue:{other.id}")
        keys.config_set("maxmemory", 0)
    assert [message["content"] for message in await batch_of(await other.connect())] == ["OOM waits"]


DAMAGES = {
    "a byte of the id": lambda entry: entry[:30] + b"\xff" + entry[31:],
    "a byte of the room": lambda entry: entry[:-4] + b"\xe9" + entry[-3:],
    "the end is missing": lambda entry: entry[: len(entry) // 2],
    "nothing but its time": lambda entry: entry[:13],
    "empty": lambda _entry: b"",
    "another kind of value": lambda entry: entry[:13] + b"[1, 2]",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_entry_is_set_aside_and_the_rest_is_handed_over(
    quick_server: ServerProcess, quick_town: Town, damage: Callable[[bytes], bytes]
) -> None:
    one, other, room_id = await quick_town.pair()
    for number in range(5):
        await one.send(room_id, "spoiled" if number == 2 else f"{number}")
    with redis_of(quick_server) as keys:
        queue = key_of(quick_server, f"queue:{other.id}")
        await until_queued(keys, queue, 5)
        whole = keys.lindex(queue, 2)
        assert isinstance(whole, bytes)
        keys.lset(queue, 2, damage(whole))
        device = await other.connect()
        assert [message["content"] for message in await batch_of(device)] == ["0", "1", "3", "4"]

        async def is_empty() -> bool:
            return not keys.exists(queue)

        await eventually(is_empty, "what was acknowledged and what is damaged have left the queue")
        assert damage(whole) in keys.lrange(key_of(quick_server, "damaged_entries"), 0, -1)
    await device.round_trip()
    assert not device.is_gone
    assert (await other.history(room_id, after=2))["messages"][0]["content"] == "spoiled"
    # Once a minute, for all who have one.
    assert re.search(r"damaged offline queue entries quarantined user=\S+ count=1\b", quick_server.log())


async def test_an_entry_without_its_time_does_not_keep_a_queue_from_expiring(
    start_server: StartServer, town_at: Any
) -> None:
    server = start_server({"sweep.interval": "200ms"})
    await town_at(server).pair()
    with redis_of(server) as keys:
        keys.rpush(key_of(server, "queue:somebody"), "\xff", f"{1:013}{{}}")
        keys.zadd(key_of(server, "queues"), {"somebody": 1})

        async def is_expired() -> bool:
            return not keys.exists(key_of(server, "queue:somebody")) and "entries quarantined" in server.log()

        await eventually(is_expired, "the queue is swept, and the log says so")
    assert server.log().count("damaged offline queue entries quarantined count=1") == 1


async def test_the_bytes_of_a_queue_are_bounded(start_server: StartServer, town_at: Any) -> None:
    server = start_server({"offline_queue.max_bytes": "64KiB", "socket.ping_interval": "300ms"})
    town: Town = town_at(server)
    one, other, room_id = await town.pair()
    sent = [await one.send(room_id, f"{number:02}" + "한" * 1_200) for number in range(30)]
    with redis_of(server) as keys:
        queue, sizes = key_of(server, f"queue:{other.id}"), key_of(server, "queue_bytes")

        def bytes_in_it() -> int:
            entries = keys.lrange(queue, 0, -1)
            assert isinstance(entries, list)
            return sum(len(entry) for entry in entries)

        await until_queued(keys, queue, len(sent))
        assert 0 < int(str(keys.hget(sizes, other.id), "ascii")) == bytes_in_it() < 30 * 100, "only references"
        # An earlier version has stored the messages themselves, without counting their bytes.
        stamp = time.time_ns() // 1_000_000
        keys.delete(queue, sizes)
        keys.rpush(queue, *(f"{stamp:013}{json.dumps(message, ensure_ascii=False)}" for message in sent))
        await one.send(room_id, "30")

        async def is_within_bounds() -> bool:
            return 60_000 < bytes_in_it() <= 64 * 1024

        await eventually(is_within_bounds, "the oldest make room")
        assert int(str(keys.hget(sizes, other.id), "ascii")) == bytes_in_it()
        device = await other.connect()
        assert [int(message["content"][:2]) for message in await batch_of(device)] == list(range(14, 31))

        async def is_forgotten() -> bool:
            return not keys.exists(queue) and not keys.hexists(sizes, other.id)

        await eventually(is_forgotten, "nothing is left of an empty queue")
        # Whatever is in it is counted when it grows.
        keys.rpush(queue, *(f"{time.time_ns() // 1_000_000:013}{{}}" + "x" * 20_000 for _ in range(4)))
        await device.leave()

        async def is_trimmed() -> bool:
            await one.send(room_id, "next")
            return int(str(keys.hget(sizes, other.id) or b"0", "ascii")) == bytes_in_it() > 0

        await eventually(is_trimmed, "its size is known")
        assert bytes_in_it() <= 64 * 1024
    history = (await other.history(room_id, after=0))["messages"]
    assert [int(message["content"][:2]) for message in history[:30]] == list(range(30))


@pytest.mark.embedded_stores
async def test_a_long_message_waits_in_the_log(quick_server: ServerProcess, quick_town: Town) -> None:
    one, other, room_id = await quick_town.pair()
    texts = ["short", "한" * 10_000, "\x01" * 10_000, "short too"]
    for text in texts:
        await one.send(room_id, text)
    with redis_of(quick_server) as keys:
        queue = key_of(quick_server, f"queue:{other.id}")
        await until_queued(keys, queue, len(texts))
        entries = keys.lrange(queue, 0, -1)
        assert isinstance(entries, list)
        assert all(len(entry) < 400 for entry in entries)
    device = await other.connect()
    batch: list[Any] = []
    while len(batch) < 4:
        batch += await batch_of(device)
    assert [message["content"] for message in batch] == texts
    assert [message["senderName"] for message in batch] == [batch[0]["senderName"]] * 4


@pytest.mark.embedded_stores
async def test_a_redis_that_is_full_by_its_setting_holds_nobody_up_and_is_emptied_by_who_comes(
    start_server: StartServer, town_at: Any
) -> None:
    server = start_server({"redis.max_memory": "8MiB", "offline_queue.max_messages": 100_000})
    town: Town = town_at(server)
    one, other, room_id = await town.pair()
    third, room_of_third = await town.person(), ""
    room_of_third = await one.open_room(third)
    listening, count = await third.connect(), 0
    with redis_of(server) as keys:
        with contextlib.suppress(redis.OutOfMemoryError):
            for number in range(100):
                keys.set(f"filler:{number}", "x" * 80_000)
        keys.delete("filler:0", "filler:1")
    sender, payload = await one.connect(), {"roomId": room_id, "content": "x"}
    while "store full store=redis" not in server.log():
        answers = await asyncio.gather(*(sender.call("message:send", payload) for _ in range(50)))
        assert all(answer["ok"] for answer in answers)
        count += 50
        assert count < 10_000
    for _ in range(5):
        await one.send(room_id, "한" * 1_200)
    await one.send(room_of_third, "live")
    assert (await listening.next("message:new"))["content"] == "live"
    assert (await town.rest.call("GET", "/readyz")).status == 200
    device = await other.connect()
    seqs: list[int] = []
    while len(seqs) < count + 5:
        seqs += [message["seq"] for message in await batch_of(device)]
    assert seqs == list(range(1, count + 6))
    assert "store unavailable store=redis" not in server.log()
    assert server.log().count("store full store=redis") == 1
