"""The room log in trouble: writes that fail half-way or arrive late. The server's own composition on real stores."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from server.config.load import load
from server.context import Context, open_context
from server.errors import Unavailable
from server.models import DELIVERY, Client, Message
from server.protocol import MessageView
from server.realtime.fan_out import Delivered
from server.requests import Registration, RoomRequest, SendMessage
from server.services.accounts import profiles
from server.services.room_log import write_queue
from server.storage.mongo.messages import MessageStore
from server.storage.redis.offline_queues import OfflineQueues
from tests.conftest import StartServer
from tests.support.device import NAMESPACE
from tests.support.people import PASSWORD, Town, unique
from tests.support.server_process import ROOT, ServerProcess
from tests.support.waiting import eventually

SHORT_ACK_TIMEOUT = 0.3
insert, find_many = MessageStore.insert, MessageStore.find_many
# A message as its sender sees it, and whether it is new.
Answer = tuple[MessageView, bool]


def settings_in(folder: Path) -> list[str]:
    return [f"data_dir={folder / 'data'}", "limits.enabled=false"]


async def register(context: Context) -> str:
    payload = Registration(email=f"{unique()}@example.com", password=PASSWORD, first_name="A", last_name="B")
    return (await context.accounts.register(payload, Client("127.0.0.1"))).user.id


async def open_room(context: Context) -> tuple[str, str, str]:
    """A sender, a receiver who is away, and their room."""
    sender, receiver = await register(context), await register(context)
    room, _is_new = await context.chat_list.open_room(sender, RoomRequest(other_user_id=receiver))
    return sender, receiver, room.id


def sending(context: Context, sender: str, room_id: str) -> Callable[[str], "asyncio.Task[Answer]"]:
    def send(content: str) -> "asyncio.Task[Answer]":
        payload = SendMessage(room_id=room_id, content=content, client_message_id=content)
        return asyncio.ensure_future(context.messages.send(sender, payload))

    return send


async def sent_at_last(send: Callable[[str], "asyncio.Task[Answer]"], content: str) -> Answer:
    """Send again as long as an earlier attempt is in doubt."""
    sent: list[Answer] = []

    async def is_stored() -> bool:
        with contextlib.suppress(Unavailable):
            sent.append(await send(content))
        return bool(sent)

    await eventually(is_stored, f"{content} is stored")
    return sent[0]


async def was_queued(context: Context, receiver: str, count: int) -> list[tuple[str, int]]:
    """Exactly so many were put on the receiver's queue: their rooms and numbers."""

    async def queued() -> list[bytes]:
        return list(await context._stores.redis.client.lrange(f"madang:madang:queue:{receiver}", 0, -1))

    async def all_there() -> bool:
        return len(await queued()) >= count

    await eventually(all_there, f"{count} are queued")
    await context.offline_writer.wait_written()
    places = [json.loads(entry[entry.index(b"{") :]) for entry in await queued()]
    assert len(places) == count
    return [(place["roomId"], place["seq"]) for place in places]


async def was_delivered(context: Context, receiver: str, *contents: str) -> None:
    """Exactly these were put on the receiver's queue, in this order."""
    found = []
    for room_id, seq in await was_queued(context, receiver, len(contents)):
        found += await context._stores.messages.read_range(room_id, seq - 1, seq)
    assert [message.content for message in found] == list(contents)


async def test_what_fails_behind_a_collision_is_not_delivered_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    async def store_one_then_break(self: MessageStore, messages: Sequence[Message]) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return await insert(self, messages[:1])
        if calls == 2:
            raise OSError("a failure that nobody foresaw")
        return await insert(self, messages)

    async with open_context(load(ROOT / "config.yaml", settings_in(tmp_path), {})) as context:
        sender, receiver, room_id = await open_room(context)
        send = sending(context, sender, room_id)
        await context.rooms.access_room(sender, room_id)
        monkeypatch.setattr(MessageStore, "insert", store_one_then_break)
        first, second = send("first"), send("second")
        assert (await first)[0].seq == 1
        with pytest.raises(Unavailable):
            await second
        assert (await sent_at_last(send, "second"))[0].seq == 2
        await was_delivered(context, receiver, "first", "second")


async def test_nothing_is_asked_of_the_database_once_a_message_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It falls silent right after the insert, when nobody's profile is in memory."""
    monkeypatch.setattr(profiles, "CACHE_AGE", 0.0)
    async with open_context(load(ROOT / "config.yaml", settings_in(tmp_path), {})) as context:
        sender, receiver, room_id = await open_room(context)
        database = int((tmp_path / "data" / "run" / "mongodb").read_text())

        async def store_and_fall_silent(self: MessageStore, messages: Sequence[Message]) -> int:
            stored = await insert(self, messages)
            os.kill(database, signal.SIGSTOP)
            return stored

        monkeypatch.setattr(MessageStore, "insert", store_and_fall_silent)
        try:
            message, is_new = await sending(context, sender, room_id)("stored")
            assert (message.sender_name, message.seq, is_new) == ("A B", 1, True)
            await was_queued(context, receiver, 1)
        finally:
            os.kill(database, signal.SIGCONT)
        await was_delivered(context, receiver, "stored")


@pytest.mark.parametrize("is_quick", [False, True], ids=["later", "while it is looked for"])
@pytest.mark.parametrize("then", ["the same again", "another", "another and the same again"])
async def test_what_was_refused_and_arrives_late_is_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, is_quick: bool
) -> None:
    """A halted store carries out a write after the server has given it up and seen that nothing was there."""
    held: list[Sequence[Message]] = []
    looked = asyncio.Event()

    async def hold(_self: MessageStore, messages: Sequence[Message]) -> int:
        held.append(messages)
        await asyncio.sleep(SHORT_ACK_TIMEOUT)
        raise Unavailable

    async def look(self: MessageStore, message_ids: Collection[str]) -> dict[str, Message]:
        found = await find_many(self, message_ids)
        if is_quick and not looked.is_set():
            await insert(self, held[0])
        looked.set()
        return found

    async with open_context(load(ROOT / "config.yaml", settings_in(tmp_path), {})) as context:
        sender, receiver, room_id = await open_room(context)
        send = sending(context, sender, room_id)
        with monkeypatch.context() as halted:
            halted.setattr(MessageStore, "insert", hold)
            halted.setattr(MessageStore, "find_many", look)
            halted.setattr(write_queue, "ACK_TIMEOUT", SHORT_ACK_TIMEOUT)
            with pytest.raises(Unavailable):
                await send("late")
            await looked.wait()
        if not is_quick:
            assert await insert(MessageStore(context._stores.database), held[0]) == 1
        if then == "the same again":
            message, is_new = await sent_at_last(send, "late")
            assert (message.seq, is_new) == (1, False)
            await was_delivered(context, receiver, "late")
        else:
            following = asyncio.ensure_future(sent_at_last(send, "next"))
            if then == "another and the same again":
                # In one batch, of which the first collides.
                await asyncio.sleep(0)
                assert (await send("late"))[0].seq == 1
            assert (await following)[0].seq == 2
            await was_delivered(context, receiver, "late", "next")


async def test_who_gives_up_while_a_collision_is_settled_can_send_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_context(load(ROOT / "config.yaml", settings_in(tmp_path), {})) as context:
        sender, receiver, room_id = await open_room(context)
        send = sending(context, sender, room_id)
        room = await context.rooms.access_room(sender, room_id)
        collided = False

        async def collide_once(self: MessageStore, messages: Sequence[Message]) -> int:
            nonlocal collided
            if collided:
                return await insert(self, messages)
            collided = True
            return 0

        async def give_up(self: MessageStore, message_ids: Collection[str]) -> dict[str, Message]:
            second.cancel()
            return await find_many(self, message_ids)

        with monkeypatch.context() as patched:
            patched.setattr(MessageStore, "insert", collide_once)
            patched.setattr(MessageStore, "find_many", give_up)
            first, second = send("first"), send("second")
            assert (await first)[0].seq == 1
        assert second.cancelled()
        assert (await sent_at_last(send, "second"))[0].seq == 2
        await was_delivered(context, receiver, "first", "second")

        async def is_released() -> bool:
            return room.pins == 0

        await eventually(is_released, "nothing holds the room")


async def test_what_was_heard_live_does_not_pile_up_behind_what_waits_for_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = asyncio.Event()
    push = OfflineQueues.enqueue

    async def wait(self: OfflineQueues, payloads: Mapping[str, Sequence[tuple[int, bytes]]]) -> dict[str, str]:
        await back.wait()
        return await push(self, payloads)

    monkeypatch.setattr(OfflineQueues, "enqueue", wait)
    async with open_context(load(ROOT / "config.yaml", settings_in(tmp_path), {})) as context:
        sender, receiver, room_id = await open_room(context)
        send = sending(context, sender, room_id)
        room = await context.rooms.access_room(sender, room_id)
        await send("waits")
        with monkeypatch.context() as connected:
            connected.setattr(context.hub, "deliver", lambda *_: Delivered(0, ()))
            for number in range(10):
                await send(f"live {number}")

            async def is_delivered() -> bool:
                return room.pins == 1

            await eventually(is_delivered, "the room is held by what waits alone")
        assert room.cursor(DELIVERY) == 0
        back.set()
        await was_delivered(context, receiver, "waits")

        async def is_settled() -> bool:
            return room.pins == 0 and room.cursor(DELIVERY) == 11

        await eventually(is_settled, "everything counts as delivered, up to the end")


async def test_who_goes_on_sending_does_not_keep_the_server_from_stopping(
    start_server: StartServer, town_at: Callable[[ServerProcess], Town]
) -> None:
    server = start_server({"server.shutdown_timeout": "5m"})  # far above the time that a stop may take
    one, _other, room_id = await town_at(server).pair()
    device = await one.connect()
    acks: list[dict[str, Any]] = []

    async def go_on_sending() -> None:
        number = 0
        while device.sio.connected:
            payload = {"roomId": room_id, "content": f"{number}"}
            await device.sio.emit("message:send", payload, namespace=NAMESPACE, callback=acks.append)
            number += 1
            await asyncio.sleep(0.002)

    async def some_are_stored() -> bool:
        return len(acks) > 50

    sender = asyncio.ensure_future(go_on_sending())
    await eventually(some_are_stored, "some messages are stored")
    await asyncio.to_thread(server.stop)
    await asyncio.wait([sender])
    server.restart()
    resident = town_at(server).resident(one)
    stored = {ack["message"]["messageId"] for ack in acks if ack["ok"]}
    page = await resident.history(room_id, after=0, limit=200)
    found = {message["messageId"] for message in page["messages"]}
    while page["pagination"]["hasNext"]:
        page = await resident.history(room_id, after=page["messages"][-1]["seq"], limit=200)
        found |= {message["messageId"] for message in page["messages"]}
    assert stored <= found
    assert {ack["error"]["code"] for ack in acks if not ack["ok"]} <= {"UNAVAILABLE"}
