"""Messages written to a dead connection come by the offline queue, unless the client has confirmed them."""

import asyncio
import json
import time
from typing import Any

import pytest

from handlers.socket.engine.polling import POLL_SECONDS
from tests.conftest import StartServer
from tests.support.device import Device
from tests.support.people import Person, Town
from tests.support.poller import Poller
from tests.support.raw_socket import CLOSE, RawSocket
from tests.support.redis_of import key_of, redis_of, until_queued
from tests.support.rest import MESSAGES
from tests.support.server_process import ServerProcess
from tests.support.waiting import eventually

OFFLINE = "messages:offline"
NEW = "message:new"
PING_DEADLINE = 20.0  # below the interval of ordinary pings


async def hears(raw: RawSocket, count: int) -> list[str]:
    """The contents of so many live messages. Pings are not answered: nothing is confirmed."""
    contents: list[str] = []
    async with asyncio.timeout(30):
        while len(contents) < count:
            payload = (await raw.frame()).payload.decode()
            if payload.startswith(f'42/chat,["{NEW}"'):
                contents.append(json.loads(payload[payload.index("[") :])[1]["content"])
    return contents


async def answer_a_ping(raw: RawSocket) -> None:
    """Answer the next ping, and wait until the server has taken the answer."""
    async with asyncio.timeout(PING_DEADLINE):
        while (await raw.frame()).payload != b"2":
            pass
    await raw.send("3")
    assert (await raw.acked("presence:get", {"userIds": []}))["ok"]


async def vanish(raw: RawSocket) -> None:
    raw.writer.transport.abort()


async def waited_for(person: Person) -> list[str]:
    """What is handed over to a device that connects now, in one piece."""
    device = await person.connect()
    return [message["content"] for message in await device.next(OFFLINE)]


async def say(one: Person, room_id: str, *contents: str) -> None:
    for content in contents:
        await one.send(room_id, content)


TEN = [f"{number}" for number in range(10)]


async def test_what_a_dead_websocket_was_sent_comes_at_the_next_connect(quick_town: Town) -> None:
    one, other, room_id = await quick_town.pair()
    second_room = await one.open_room(other, "booking")
    witness = await one.connect()
    raw = await quick_town.raw_chat(other.access_token)
    for number, content in enumerate(TEN):
        await one.send((room_id, second_room)[number % 2], content)
    await other.send(room_id, "my own")
    assert await hears(raw, 11) == [*TEN, "my own"]
    await vanish(raw)
    await witness.next("user:offline")
    await one.send(room_id, "while away")
    device = await other.connect()
    batch = await device.next(OFFLINE)
    assert [message["content"] for message in batch if message["roomId"] == room_id] == [*TEN[::2], "while away"]
    assert [message["content"] for message in batch if message["roomId"] == second_room] == TEN[1::2]
    assert batch[0] == (await other.history(room_id, after=0))["messages"][0]


async def test_what_a_ping_has_confirmed_does_not_come_again(start_server: StartServer, town_at: Any) -> None:
    """By a ping that is sent because of the message: the interval of the others is too long."""
    town: Town = town_at(start_server({"presence.grace": "100ms"}))
    one, other, room_id = await town.pair()
    witness = await one.connect()
    raw = await town.raw_chat(other.access_token)
    await say(one, room_id, "confirmed")
    assert await hears(raw, 1) == ["confirmed"]
    await answer_a_ping(raw)
    await say(one, room_id, "not confirmed")
    assert await hears(raw, 1) == ["not confirmed"]
    await vanish(raw)
    await witness.next("user:offline")
    assert await waited_for(other) == ["not confirmed"]


async def test_a_message_that_another_connection_confirmed_is_not_owed(quick_town: Town) -> None:
    one, other, room_id = await quick_town.pair()
    witness = await one.connect()
    silent = await quick_town.raw_chat(other.access_token)
    await say(one, room_id, "to one only")
    assert await hears(silent, 1) == ["to one only"]
    answering = await quick_town.raw_chat(other.access_token)
    await say(one, room_id, "to both")
    assert await hears(silent, 1) == await hears(answering, 1) == ["to both"]
    await answer_a_ping(answering)
    await vanish(answering)
    await vanish(silent)
    await witness.next("user:offline")
    assert await waited_for(other) == ["to one only"]


async def test_what_only_a_dead_connection_was_sent_comes_to_one_that_lives(quick_town: Town) -> None:
    one, other, room_id = await quick_town.pair()
    silent = await quick_town.raw_chat(other.access_token)
    await say(one, room_id, *TEN)
    assert await hears(silent, 10) == TEN
    device = await other.connect()
    await vanish(silent)
    assert [message["content"] for message in await device.next(OFFLINE)] == TEN
    await say(one, room_id, "live")
    await device.next(NEW, lambda message: message["content"] == "live")


async def test_a_poll_confirms_what_the_one_before_was_answered_with(quick_town: Town) -> None:
    one, other, room_id = await quick_town.pair()
    witness, poller = await one.connect(), Poller(quick_town)
    await poller.begin(other)
    await say(one, room_id, "confirmed")
    while not any(NEW in packet for packet in await poller.poll()):
        pass
    await poller.say('42/chat,["presence:get",{"userIds":[]}]')
    await say(one, room_id, "not confirmed")
    while not any("not confirmed" in packet for packet in await poller.poll()):
        pass
    await poller.say("41/chat,")
    await witness.next("user:offline")
    assert await waited_for(other) == ["not confirmed"]


async def test_who_ends_a_poll_and_does_not_poll_again_is_gone(start_server: StartServer, town_at: Any) -> None:
    server = start_server({"presence.grace": "100ms"})
    town: Town = town_at(server)
    one, other, room_id = await town.pair()
    witness, poller = await one.connect(), Poller(town)
    await poller.begin(other)
    await poller.poll_and_hang_up()
    await say(one, room_id, *TEN)
    # It would be missed after 45 s otherwise.
    await witness.next("user:offline")
    assert await waited_for(other) == TEN


async def test_who_ends_a_poll_and_polls_again_stays(quick_town: Town) -> None:
    one, other, room_id = await quick_town.pair()
    poller = Poller(quick_town)
    await poller.begin(other)
    await poller.poll_and_hang_up()
    patience_ends = time.monotonic() + POLL_SECONDS + 1
    while time.monotonic() < patience_ends:
        if "2" in await poller.poll():
            await poller.say("3")
    await say(one, room_id, "live")
    while not any("live" in packet for packet in await poller.poll()):
        pass


@pytest.mark.parametrize("ending", ["kill", "stop"])
async def test_what_was_not_confirmed_when_the_server_ended_comes_after_its_start(
    start_server: StartServer, town_at: Any, ending: str
) -> None:
    server = start_server()
    town: Town = town_at(server)
    one, other, room_id = await town.pair()
    raw = await town.raw_chat(other.access_token)
    await say(one, room_id, "confirmed")
    assert await hears(raw, 1) == ["confirmed"]
    await answer_a_ping(raw)
    await settled(server)
    await say(one, room_id, *TEN)
    assert await hears(raw, 10) == TEN
    getattr(server, ending)()
    server.restart()
    again: Town = town_at(server)
    assert await waited_for(again.resident(other)) == TEN
    assert ("recovered after crash" in server.log()) == (ending == "kill")


async def settled(server: ServerProcess) -> None:
    """Wait until no room is noted as having messages under way."""

    async def is_settled() -> bool:
        return not (server.data_dir / "unsettled_rooms").read_text().split()

    await eventually(is_settled, "no room is noted")


async def test_queues_refer_to_the_log_and_what_was_read_meanwhile_does_not_come(
    quick_server: ServerProcess, quick_town: Town
) -> None:
    one, other, room_id = await quick_town.pair()
    witness, raw = await one.connect(), await quick_town.raw_chat(other.access_token)
    await say(one, room_id, *TEN)
    assert await hears(raw, 10) == TEN
    await vanish(raw)
    await witness.next("user:offline")
    with redis_of(quick_server) as keys:
        queue = key_of(quick_server, f"queue:{other.id}")
        await until_queued(keys, queue, len(TEN))
        entries = keys.lrange(queue, 0, -1)
    assert isinstance(entries, list)
    assert [json.loads(entry[13:]) for entry in entries] == [{"seq": n + 1, "roomId": room_id} for n in range(10)]
    third = (await other.history(room_id, after=0))["messages"][2]
    await other.post(f"{MESSAGES}/chats/{room_id}/read", {"messageId": third["messageId"]})
    assert await waited_for(other) == TEN[3:]


async def test_references_come_in_order_whatever_order_the_queue_has(start_server: StartServer, town_at: Any) -> None:
    """As after a crash, or where Redis began anew: what was on its way to it stands before what is older."""
    server = start_server({"presence.grace": "100ms"})
    town: Town = town_at(server)
    one, other, room_id = await town.pair()
    witness, raw = await one.connect(), await town.raw_chat(other.access_token)
    contents = [f"{number}" for number in range(40)]
    await say(one, room_id, *contents[:-1])
    assert await hears(raw, 39) == contents[:-1]
    await vanish(raw)
    await witness.next("user:offline")
    await say(one, room_id, contents[-1])
    queue = key_of(server, f"queue:{other.id}")
    with redis_of(server) as keys:
        await until_queued(keys, queue, len(contents))
        keys.rpoplpush(queue, queue)
    device = await other.connect()
    handed: list[str] = []
    while len(handed) < len(contents):
        handed += [message["content"] for message in await device.next(OFFLINE)]
    assert handed == contents


async def test_long_messages_that_were_lost_come_in_pieces(town: Town) -> None:
    one, other, room_id = await town.pair()
    raw = await town.raw_chat(other.access_token)
    sender, count = await one.connect(), 60
    payload = {"roomId": room_id, "content": "한" * 10_000}
    answers = await asyncio.gather(*(sender.call("message:send", payload) for _ in range(count)))
    assert all(answer["ok"] for answer in answers)
    assert len(await hears(raw, count)) == count
    await vanish(raw)
    device: Device = await other.connect()
    seqs: list[int] = []
    while len(seqs) < count:
        batch = await device.next(OFFLINE)
        assert len(json.dumps(batch, ensure_ascii=False).encode()) < 1.1 * 2**20
        seqs += [message["seq"] for message in batch]
    assert seqs == list(range(1, count + 1))


async def test_what_comes_while_a_connection_is_closing_follows_what_it_was_sent(
    start_server: StartServer, town_at: Any
) -> None:
    """A client that says goodbye and does not read is waited for; what comes in that time must not pass by the rest."""
    town: Town = town_at(start_server({"presence.grace": "100ms", "socket.max_unsent": "16MiB"}))
    one, other, room_id = await town.pair()
    witness = await one.connect()
    raw = await town.raw_chat(other.access_token, receive_buffer=8192)
    # More than the kernel keeps for somebody who does not read; one's own do not come again.
    for _ in range(8):
        await asyncio.gather(*(other.send(room_id, "한" * 10_000) for _ in range(20)))
    # More than are handed over at once.
    await say(one, room_id, *(f"sent {number}" for number in range(40)))
    goodbye = raw.encode("42/chat," + json.dumps(["message:send", {"roomId": room_id, "content": "goodbye"}]))
    await raw.send_raw(goodbye + raw.encode(b"\x03\xe8", CLOSE))
    await witness.next(NEW, lambda message: message["content"] == "goodbye")
    await say(one, room_id, "while it closes")
    await witness.next("user:offline")
    device = await other.connect()
    contents: list[str] = []
    while len(contents) < 41:
        contents += [message["content"] for message in await device.next(OFFLINE)]
    assert contents == [*(f"sent {number}" for number in range(40)), "while it closes"]
