"""Delivery to connected people: `message:new` exactly once per socket, and receipts."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.support.device import POLLING, TRANSPORTS, UPGRADED, WEBSOCKET, Device
from tests.support.people import Person, Town
from tests.support.rest import MESSAGES
from tests.support.shapes import check_message, check_refused, check_time


async def hears_up_to(device: Device, seq: int) -> list[int]:
    """The seqs of every `message:new` that a device has heard by the time it hears `seq`."""
    await device.next("message:new", lambda message: message["seq"] == seq)
    return [message["seq"] for message in device.heard("message:new")]


async def test_every_socket_of_every_participant_hears_each_message_once(town: Town) -> None:
    one, other, room_id = await town.pair()
    stranger = await town.person()
    outside = await stranger.connect()
    transports = (WEBSOCKET, POLLING, UPGRADED)
    mine = await asyncio.gather(*(one.connect(kind) for kind in transports))
    theirs = await asyncio.gather(*(other.connect(kind) for kind in transports))
    for device in (mine[0], theirs[0]):  # joined and unjoined sockets hear the same
        assert (await device.call("room:join", {"roomId": room_id}))["ok"]
        assert (await device.call("room:join", {"roomId": room_id}))["ok"]
    left = theirs[1]
    assert (await left.call("room:join", {"roomId": room_id}))["ok"]
    assert (await left.call("room:leave", {"roomId": room_id}))["ok"]
    for number in range(10):
        await one.send(room_id, f"rest {number}")
        ack = await mine[number % 3].call("message:send", {"roomId": room_id, "content": f"socket {number}"})
        assert ack["ok"], ack
    for device in (*mine, *theirs):
        assert await hears_up_to(device, 20) == list(range(1, 21))
    await outside.round_trip()
    assert outside.heard("message:new") == []


async def test_the_same_message_looks_the_same_everywhere(town: Town) -> None:
    one, other, room_id = await town.pair()
    mine, theirs = await one.connect(), await other.connect()
    ack = await mine.call("message:send", {"roomId": room_id, "content": "Hello!", "messageType": "TEXT"})
    message = ack["message"]
    check_message(message)
    assert (message["roomId"], message["seq"], message["senderId"]) == (room_id, 1, one.id)
    assert (message["senderName"], message["clientMessageId"], message["isRead"]) == (one.name, None, False)
    shown = [
        await mine.next("message:new"),
        await theirs.next("message:new"),
        (await one.history(room_id))["messages"][0],
        (await other.history(room_id))["messages"][0],
        (await one.room(room_id))["lastMessage"],
    ]
    assert shown == [message] * len(shown)


async def test_joining_tells_the_room_and_where_it_stands(town: Town) -> None:
    one, other, room_id = await town.pair()
    await one.send(room_id)
    device = await other.connect()
    ack = await device.call("room:join", {"roomId": room_id})
    assert (ack["ok"], ack["lastSeq"], ack["room"]["id"]) == (True, 1, room_id)
    assert ack["room"] == await other.room(room_id)


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_reading_is_told_to_the_others_and_to_my_other_sockets(town: Town, transports: tuple[str, ...]) -> None:
    one, other, room_id = await town.pair()
    sent = [await one.send(room_id, f"{number}") for number in range(3)]
    sender = await one.connect(transports)
    reading, second = await other.connect(transports), await other.connect(transports)
    ack = await reading.call("message:read", {"messageId": sent[1]["messageId"]})
    assert ack == {"ok": True, "roomId": room_id, "seq": 2, "unreadCount": 1}
    for device in (sender, second):
        receipt = await device.next("message:read", lambda told: told["seq"] == 2)
        check_time(receipt.pop("at"))
        assert receipt == {"roomId": room_id, "messageId": sent[1]["messageId"], "seq": 2, "userId": other.id}
    await reading.round_trip()
    assert reading.heard("message:read") == []
    delivered, read = await marks_of(other, room_id)
    assert (delivered >= 2, read) == (True, 2)


async def test_reading_over_rest_does_the_same(town: Town) -> None:
    one, other, room_id = await town.pair()
    message = await one.send(room_id)
    sender, mine = await one.connect(), await other.connect()
    answer = await other.post(f"{MESSAGES}/chats/{room_id}/read", {"messageId": message["messageId"]})
    assert answer.status == 200, answer
    assert answer.body == {"ok": True, "roomId": room_id, "seq": 1, "unreadCount": 0}
    for device in (sender, mine):
        assert (await device.next("message:read"))["userId"] == other.id


async def test_delivered_marks_only_grow_and_reading_implies_them(town: Town) -> None:
    one, other, room_id = await town.pair()
    sender, receiver = await one.connect(), await other.connect()
    sent = [await one.send(room_id, f"{number}") for number in range(3)]

    async def tell(event: str, index: int) -> dict[str, Any]:
        ack = await receiver.call(event, {"messageId": sent[index]["messageId"]})
        assert ack["ok"], ack
        return ack

    await tell("message:delivered", 1)
    receipt = await sender.next("message:delivered", lambda told: told["seq"] == 2)
    assert (receipt["userId"], receipt["messageId"]) == (other.id, sent[1]["messageId"])
    assert await marks_of(other, room_id) == (2, 0)
    await tell("message:delivered", 0)
    assert await marks_of(other, room_id) == (2, 0)
    await tell("message:read", 2)
    assert await marks_of(other, room_id) == (3, 3)
    await tell("message:read", 0)
    await tell("message:delivered", 1)
    assert await marks_of(other, room_id) == (3, 3)


async def test_the_senders_mark_follows_own_messages_when_nothing_was_unread(town: Town) -> None:
    one, other, room_id = await town.pair()
    await one.send(room_id)
    assert (await marks_of(one, room_id))[1] == 1
    await other.send(room_id)
    await one.send(room_id)
    assert (await marks_of(one, room_id))[1] == 1


async def marks_of(person: Person, room_id: str) -> tuple[int, int]:
    """(delivered, read) of one member."""
    members = {member["userId"]: member for member in (await person.room(room_id))["members"]}
    return members[person.id]["lastDeliveredSeq"], members[person.id]["lastReadSeq"]


async def test_a_receipt_for_a_strangers_message_is_not_found(town: Town) -> None:
    one, _other, room_id = await town.pair()
    message = await one.send(room_id)
    stranger = await (await town.person()).connect()
    for event in ("message:read", "message:delivered"):
        check_refused(await stranger.call(event, {"messageId": message["messageId"]}), "NOT_FOUND")


async def test_two_hundred_messages_at_once_reach_twenty_sockets_once_each(town: Town) -> None:
    one, other, room_id = await town.pair()
    devices = [await person.connect() for person in (one, other) for _ in range(10)]
    await asyncio.gather(*(one.send(room_id, f"{number}") for number in range(200)))
    for device in devices:
        for _ in range(200):
            await device.next("message:new")
    await one.send(room_id, "fence")
    for device in devices:
        seqs = await hears_up_to(device, 201)
        assert set(Counter(seqs).values()) == {1}
        assert seqs == sorted(seqs)
