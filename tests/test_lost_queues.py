"""Offline queues that Redis has lost are refilled from the log, at the start and while the server runs."""

import os
import shutil
import signal
import subprocess
import sys
from typing import Any

import pytest
import redis

from tests.conftest import StartServer
from tests.support.device import Device
from tests.support.redis_of import key_of, redis_of, until_queued
from tests.support.server_process import ROOT, ServerProcess
from tests.support.waiting import eventually

LOST = "offline queues lost, refilled from the log"


async def contents(device: Device) -> list[str]:
    return [message["content"] for message in await device.next("messages:offline")]


async def lost(server: ServerProcess, times: int) -> None:
    async def are_made_again() -> bool:
        return server.log().count(LOST) == times

    await eventually(are_made_again, "the queues are made again")


@pytest.mark.embedded_stores
async def test_what_is_owed_comes_after_the_folder_was_removed(start_server: StartServer, town_at: Any) -> None:
    server = start_server()
    town = town_at(server)
    one, other, room_id = await town.pair()
    third = await town.person()
    second = await third.open_room(other)
    first = await one.send(room_id, "read")
    assert (await other.post(f"/api/v1/messages/chats/{room_id}/read", {"messageId": first["messageId"]})).status == 200
    for number in range(3):
        await one.send(room_id, f"owed {number}")
    await third.send(second, "owed too")
    await other.send(second, "own")
    server.stop()
    shutil.rmtree(server.data_dir / "redis")
    server.start()
    assert f"{LOST} messages=5 users=2 " in server.log()
    town = town_at(server)
    found = await contents(await town.resident(other).connect())
    assert [text for text in found if text != "owed too"] == ["owed 0", "owed 1", "owed 2"]
    assert sorted(found) == ["owed 0", "owed 1", "owed 2", "owed too"]
    assert await contents(await town.resident(third).connect()) == ["own"]


@pytest.mark.embedded_stores
async def test_a_redis_that_dies_on_a_damaged_file_owes_nothing(start_server: StartServer, town_at: Any) -> None:
    server = start_server()
    town = town_at(server)
    one, other, room_id = await town.pair()
    await one.send(room_id, "before")
    sender = await one.connect()
    (server.data_dir / "redis" / "appendonlydir" / "appendonly.aof.manifest").write_bytes(b"")
    os.kill(int((server.data_dir / "run" / "redis").read_text()), signal.SIGKILL)
    ack = await sender.call("message:send", {"roomId": room_id, "content": "meanwhile"})
    assert ack["ok"], "nothing that was promised needs Redis"
    await lost(server, 1)
    device = await other.connect()
    assert await contents(device) == ["before", "meanwhile"]
    await one.send(room_id, "live")
    assert (await device.next("message:new"))["content"] == "live"


@pytest.mark.embedded_stores
async def test_queues_of_another_history_are_dropped(start_server: StartServer, town_at: Any, tmp_path: Any) -> None:
    """As after a restored backup of a database, whose Redis is still the one of before."""
    server = start_server()
    one, other, room_id = await town_at(server).pair()
    await one.send(room_id, "kept")
    server.stop()
    shutil.copytree(server.data_dir / "mongodb", tmp_path / "backup")
    server.start()
    one = town_at(server).resident(one)
    await one.send(room_id, "lost")
    server.stop()
    shutil.rmtree(server.data_dir / "mongodb")
    shutil.copytree(tmp_path / "backup", server.data_dir / "mongodb")
    command = [sys.executable, str(ROOT / "main.py"), "epoch", "--new", "--set", f"data_dir={server.data_dir}"]
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)
    server.start()
    town = town_at(server)
    one = town.resident(one)
    await one.send(room_id, "after")
    assert await contents(await town.resident(other).connect()) == ["kept", "after"]


@pytest.mark.embedded_stores
async def test_what_came_after_a_refill_was_broken_off_stays(start_server: StartServer, town_at: Any) -> None:
    """The refill that follows cannot bring it back where its receiver has been delivered something later meanwhile."""
    server = start_server({"sweep.interval": "200ms"})
    one, other, room_id = await town_at(server).pair()
    sent = [await one.send(room_id, text) for text in ("first", "second")]
    with redis_of(server) as keys:
        queue, epoch = key_of(server, f"queue:{other.id}"), key_of(server, "queues_epoch")
        await until_queued(keys, queue, 2)
        process = int((server.data_dir / "run" / "redis").read_text())
        os.kill(process, signal.SIGSTOP)
        device = await other.connect()
        assert (await device.call("message:delivered", {"messageId": sent[1]["messageId"]}))["ok"]
        await device.leave()
        os.kill(process, signal.SIGCONT)
        keys.set(epoch, "")

        async def is_refilled() -> bool:
            return bool(keys.get(epoch))

        await eventually(is_refilled, "the queues are made again")
    assert await contents(await other.connect()) == ["first", "second"]


@pytest.mark.embedded_stores
async def test_what_came_after_the_loss_does_not_pass_what_was_lost(start_server: StartServer, town_at: Any) -> None:
    """Nobody has noticed the loss when the receiver connects, and confirms what came after it."""
    server = start_server({"sweep.interval": "1h"})
    one, other, room_id = await town_at(server).pair()
    await one.send(room_id, "before")
    queue = key_of(server, f"queue:{other.id}")
    with redis_of(server) as keys:
        await until_queued(keys, queue, 1)
        keys.flushall()
        await one.send(room_id, "after")
        await until_queued(keys, queue, 1)
    assert await contents(await other.connect()) == ["before", "after"]


@pytest.mark.embedded_stores
async def test_a_full_redis_is_not_given_the_same_again_and_again(start_server: StartServer, town_at: Any) -> None:
    server = start_server({"sweep.interval": "200ms"})
    one, other, room_id = await town_at(server).pair()
    for number in range(3):
        await one.send(room_id, f"{number}")
    queue, epoch = f"madang:madang:queue:{other.id}", "madang:madang:queues_epoch"
    password = (server.data_dir / "redis_password").read_text().strip()
    path = str(server.data_dir / "redis" / "redis.sock")
    with redis.Redis(unix_socket_path=path, password=password, decode_responses=True) as keys:

        async def is_queued() -> bool:
            return keys.llen(queue) == 3

        await eventually(is_queued, "all of them are on the queue")
        keys.config_set("maxmemory", 1)
        keys.flushall()
        looks = keys.info("commandstats")["cmdstat_get"]["calls"]

        async def has_looked() -> bool:
            return bool(keys.info("commandstats")["cmdstat_get"]["calls"] >= looks + 4)

        await eventually(has_looked, "the server has looked for the queues several times")
        keys.config_set("maxmemory", 0)

        async def are_there_again() -> bool:
            return bool(keys.get(epoch))

        await eventually(are_there_again, "the queues are made again")
        assert keys.llen(queue) == 3
    assert await contents(await other.connect()) == ["0", "1", "2"]
