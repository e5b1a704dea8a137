"""What sockets can do is there over REST too: sync, one chat, the sum of what is unread, presence, keys of requests."""

from typing import Any

import pytest

from tests.support.groups import ROOMS, make, people
from tests.support.people import Person, Town, unique
from tests.support.rest import API, MESSAGES, Answer
from tests.support.shapes import check_problem


async def post_sync(person: Person, rooms: dict[str, Any], **more: Any) -> Answer:
    return await person.post(f"{MESSAGES}/sync", {"rooms": rooms, **more})


async def test_sync_is_the_same_over_both(town: Town) -> None:
    one, other, room_id = await town.pair()
    for number in range(3):
        await other.send(room_id, f"{number}")
    device = await one.connect()
    for rooms in ({}, {room_id: 0}, {room_id: {"seq": 1, "rev": 0}}):
        ack = await device.call("sync", {"rooms": rooms})
        answer = await post_sync(one, rooms)
        assert answer.status == 200 and {"ok": True, **answer.body} == ack
    reset = await post_sync(one, {room_id: 3}, epoch="other")
    assert reset.body["reset"] is True and len(reset.body["rooms"][0]["messages"]) == 3
    check_problem(await post_sync(one, {room_id: "x"}), "VALIDATION_FAILED")
    stranger = await town.person()
    check_problem(await post_sync(stranger, {room_id: 0}), "NOT_FOUND")


async def test_one_chat_is_a_line_of_the_list(town: Town) -> None:
    one, other, stranger = await people(town, 3)
    booking = unique("booking")
    room_id, group_id = await one.open_room(other, booking), await make(one, other)
    await other.send(room_id, "Hello!")
    for chat_id in (room_id, group_id):
        answer = await one.get(f"{MESSAGES}/chats/{chat_id}")
        assert answer.status == 200 and answer.body == await one.chat(chat_id)
        check_problem(await stranger.get(f"{MESSAGES}/chats/{chat_id}"), "NOT_FOUND")
    found = await one.chats(bookingId=booking)
    assert [chat["chatId"] for chat in found["chats"]] == [room_id] and found["nextCursor"] is None
    assert (await one.chats(bookingId=unique("none")))["chats"] == []
    check_problem(await one.get(f"{MESSAGES}/chats", bookingId="x" * 129), "VALIDATION_FAILED")


async def test_the_sum_of_what_is_unread(town: Town) -> None:
    one, other = await people(town, 2)

    async def unread() -> dict[str, int]:
        return dict((await one.get(f"{MESSAGES}/unread")).body)

    assert await unread() == {"unreadCount": 0, "mentionCount": 0, "chats": 0}
    room_id, group_id = await one.open_room(other), await make(other, one)
    await one.send(room_id, "mine")
    await other.send(room_id, "one")
    last = await other.send(room_id, "two")
    await other.send(group_id, "three", mentions=[one.id])
    assert await unread() == {"unreadCount": 3, "mentionCount": 1, "chats": 2}
    await one.post(f"{MESSAGES}/chats/{room_id}/read", {"messageId": last["messageId"]})
    assert await unread() == {"unreadCount": 1, "mentionCount": 1, "chats": 1}
    await other.call("DELETE", f"{ROOMS}/{group_id}")
    assert await unread() == {"unreadCount": 0, "mentionCount": 0, "chats": 0}


async def test_presence_of_some(town: Town) -> None:
    one, other = await people(town, 2)
    await other.connect()
    unknown = unique("u")
    answer = await one.get(f"{API}/users/presence", ids=f"{other.id},{unknown}")
    assert [(line["userId"], line["isOnline"]) for line in answer.body["presence"]] == [
        (other.id, True),
        (unknown, False),
    ]
    for ids in ("", ",", "x," * 200 + "x", "x" * 129):
        check_problem(await one.get(f"{API}/users/presence", ids=ids), "VALIDATION_FAILED", "ids")
    check_problem(await one.get(f"{API}/users/presence"), "VALIDATION_FAILED", "ids")


@pytest.mark.parametrize("key", ["one", '"quoted"', "x" * 64])
async def test_an_idempotency_key_is_the_clients_message_id(town: Town, key: str) -> None:
    one, _other, room_id = await town.pair()
    path, header = f"{MESSAGES}/chats/{room_id}/messages", {"Idempotency-Key": key}
    first = await one.call("POST", path, {"content": "once"}, headers=header)
    again = await one.call("POST", path, {"content": "once"}, headers=header)
    third = await one.call("POST", path, {"content": "once", "clientMessageId": key}, headers=header)
    assert (first.status, again.status, third.status) == (201, 200, 200)
    assert first.body["clientMessageId"] == key and again.body == third.body == first.body
    differs = await one.call("POST", path, {"content": "x", "clientMessageId": "other"}, headers=header)
    check_problem(differs, "VALIDATION_FAILED", "clientMessageId")
    check_problem(
        await one.call("POST", path, {"content": "x"}, headers={"Idempotency-Key": "x" * 65}),
        "VALIDATION_FAILED",
        "clientMessageId",
    )
