"""Rooms of two: one for each pair and booking under any concurrency, the chat list, unread counts and the cursor."""

import asyncio

import pytest

from tests.conftest import Residents
from tests.support.device import Device
from tests.support.people import Person, Town, unique
from tests.support.rest import MESSAGES
from tests.support.shapes import CHAT_KEYS, ROOM_KEYS, check_message, check_problem, check_time

ROOMS = f"{MESSAGES}/chat-rooms"
CONCURRENT = 50


@pytest.mark.parametrize("has_booking", [False, True], ids=["no booking", "booking"])
async def test_many_at_once_make_one_room(town: Town, has_booking: bool) -> None:
    one, other = await town.people(2)
    booking = {"bookingId": unique("booking")} if has_booking else {}

    def ask(number: int) -> "asyncio.Future":
        me, them = (one, other) if number % 2 else (other, one)
        return asyncio.ensure_future(me.post(ROOMS, {"otherUserId": them.id, **booking}))

    answers = await asyncio.gather(*(ask(number) for number in range(CONCURRENT)))
    assert len({answer.body["id"] for answer in answers}) == 1
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [200] * (CONCURRENT - 1) + [201], statuses
    for person in (one, other):
        assert len((await person.chats())["chats"]) == 1


async def test_each_booking_has_a_room_of_its_own(town: Town) -> None:
    one, other = await town.people(2)
    bookings = [None, unique("b"), unique("b"), "null", "None", " ", "한글 💥"]
    rooms = [await one.open_room(other, booking) for booking in bookings]
    assert len(set(rooms)) == len(bookings)
    assert [await other.open_room(one, booking) for booking in bookings] == rooms


async def test_a_room_shows_its_people_and_marks(town: Town) -> None:
    one, other = await town.people(2)
    booking = unique("booking")
    made = await one.post(ROOMS, {"otherUserId": other.id, "bookingId": booking})
    assert made.status == 201
    room = made.body
    assert room.keys() >= ROOM_KEYS
    assert {room["user1Id"], room["user2Id"]} == {one.id, other.id}
    assert (room["bookingId"], room["lastSeq"], room["lastMessage"]) == (booking, 0, None)
    check_time(room["createdAt"])
    assert {member["userId"]: (member["lastDeliveredSeq"], member["lastReadSeq"]) for member in room["members"]} == {
        one.id: (0, 0),
        other.id: (0, 0),
    }
    again = await other.post(ROOMS, {"otherUserId": one.id, "bookingId": booking})
    assert again.status == 200
    assert await one.room(room["id"]) == room == await other.room(room["id"]) == again.body


async def test_a_new_room_is_told_to_the_other_side_only(town: Town) -> None:
    one, other = await town.people(2)
    mine, theirs = await one.connect(), await other.connect()
    room_id = await one.open_room(other)
    told = await theirs.next("room:new")
    assert told["id"] == room_id and told.keys() >= ROOM_KEYS
    await one.open_room(other)
    await one.send(room_id, "fence")
    await _hears_fence(mine, theirs)
    assert mine.heard("room:new") == []
    assert len(theirs.heard("room:new")) == 1


async def _hears_fence(*devices: Device) -> None:
    for device in devices:
        await device.next("message:new", lambda message: message["content"] == "fence")


async def test_nobody_has_a_room_with_oneself_or_with_nobody(town: Town, residents: Residents) -> None:
    alice = town.resident(residents.alice)
    check_problem(await alice.post(ROOMS, {"otherUserId": alice.id}), "VALIDATION_FAILED", "otherUserId")
    check_problem(await alice.post(ROOMS, {"otherUserId": unique()}), "NOT_FOUND")


async def test_the_chat_list_shows_the_latest_first_and_empty_rooms_last(town: Town) -> None:
    me, empty, early, late = await town.people(4)
    rooms = [await me.open_room(person, unique("b")) for person in (empty, early, late)]
    await early.send(rooms[1], "early")
    await late.send(rooms[2], "late")
    chats = (await me.chats())["chats"]
    assert [chat["chatId"] for chat in chats] == [rooms[2], rooms[1], rooms[0]]
    for chat, person in zip(chats, (late, early, empty), strict=True):
        assert chat.keys() >= CHAT_KEYS
        assert (chat["participantId"], chat["participantName"]) == (person.id, person.name)
        assert chat["isOnline"] is False
        assert chat["transactionId"].startswith("b-")
    assert (chats[0]["lastMessage"], chats[0]["lastMessageType"], chats[0]["unreadCount"]) == ("late", "TEXT", 1)
    check_time(chats[0]["lastMessageTime"])
    assert (chats[2]["lastMessage"], chats[2]["lastMessageType"], chats[2]["lastMessageTime"]) == (None, None, None)
    await me.send(rooms[0], "now")
    assert (await me.chats())["chats"][0]["chatId"] == rooms[0]


async def test_the_cursor_walks_the_whole_list_once(town: Town) -> None:
    me, *others = await town.people(8)
    rooms = [await me.open_room(person) for person in others]
    for room_id in rooms[:5]:
        await me.send(room_id, "x")
    walked: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await me.chats(limit=2, **cursor)
        assert len(page["chats"]) <= 2
        walked += [chat["chatId"] for chat in page["chats"]]
        if page["nextCursor"] is None:
            break
        cursor = {"cursor": page["nextCursor"]}
    everything = [chat["chatId"] for chat in (await me.chats())["chats"]]
    assert walked == everything
    assert sorted(walked) == sorted(rooms)
    assert walked[:5] == rooms[4::-1]


async def test_unread_counts_the_others_messages_after_my_mark(town: Town) -> None:
    one, other, room_id = await town.pair()

    async def unread(person: Person) -> int:
        return (await person.chat(room_id))["unreadCount"]

    sent = [await other.send(room_id, f"{number}") for number in range(3)]
    assert (await unread(one), await unread(other)) == (3, 0)
    await one.send(room_id, "mine, with three still unread")
    assert (await unread(one), await unread(other)) == (3, 1)
    answer = await one.post(f"{MESSAGES}/chats/{room_id}/read", {"messageId": sent[1]["messageId"]})
    assert (answer.status, answer.body["seq"], answer.body["unreadCount"]) == (200, 2, 1)
    assert await unread(one) == 1
    back = await one.post(f"{MESSAGES}/chats/{room_id}/read", {"messageId": sent[0]["messageId"]})
    assert (back.status, back.body["unreadCount"]) == (200, 1), "a mark never goes back"
    assert await unread(one) == 1
    await one.post(f"{MESSAGES}/chats/{room_id}/read", {"messageId": sent[2]["messageId"]})
    assert await unread(one) == 0


async def test_the_room_keeps_its_last_message(town: Town) -> None:
    one, other, room_id = await town.pair()
    for number in range(3):
        last = await one.send(room_id, f"{number}")
    for person in (one, other):
        room = await person.room(room_id)
        assert room["lastSeq"] == 3
        check_message(room["lastMessage"])
        assert room["lastMessage"]["messageId"] == last["messageId"]


async def test_someone_online_is_shown_online(town: Town) -> None:
    one, other, room_id = await town.pair()
    await other.connect()
    assert (await one.chat(room_id))["isOnline"] is True
    assert (await other.chat(room_id))["isOnline"] is False
