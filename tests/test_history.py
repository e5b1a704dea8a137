"""History: by page, before and after a number; and `isRead` for each side."""

import asyncio
from typing import Any

import pytest

from tests.support.people import Person, Town
from tests.support.rest import MESSAGES
from tests.support.shapes import check_message

COUNT = 23
LARGE = 70
# Each character takes six bytes as JSON, so that 35 of these are more than 2 MiB.
LARGE_CONTENT = "\x01" * 10_000
MOST_BYTES = 2 * 1024 * 1024 + 1024


async def filled(town: Town) -> tuple[Person, Person, str]:
    one, other, room_id = await town.pair()
    for number in range(COUNT):
        await (one, other)[number % 2].send(room_id, f"{number + 1}")
    return one, other, room_id


def seqs(page: dict[str, Any]) -> list[int]:
    return [message["seq"] for message in page["messages"]]


async def test_pages_walk_from_the_newest_to_the_oldest(town: Town) -> None:
    one, _other, room_id = await filled(town)
    walked: list[int] = []
    for number in range(1, 6):
        page = await one.history(room_id, page=number, limit=5)
        for message in page["messages"]:
            check_message(message)
            assert message["content"] == str(message["seq"])
        walked += seqs(page)
        assert page["pagination"] == {
            "currentPage": number,
            "totalPages": 5,
            "totalItems": COUNT,
            "hasNext": number < 5,
            "hasPrev": number > 1,
        }
    assert walked == list(range(COUNT, 0, -1))


async def test_a_page_past_the_end_is_empty(town: Town) -> None:
    one, _other, room_id = await filled(town)
    page = await one.history(room_id, page=1_000_000, limit=200)
    assert page["messages"] == []
    assert (page["pagination"]["totalItems"], page["pagination"]["hasNext"]) == (COUNT, False)


async def test_an_empty_room_has_an_empty_page(town: Town) -> None:
    one, _other, room_id = await town.pair()
    page = await one.history(room_id)
    assert page["messages"] == []
    pagination = page["pagination"]
    assert (pagination["currentPage"], pagination["totalItems"]) == (1, 0)
    assert (pagination["hasNext"], pagination["hasPrev"]) == (False, False)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, list(range(COUNT, 0, -1))),
        ({"before": 11, "limit": 4}, [7, 8, 9, 10]),
        ({"before": 3, "limit": 50}, [1, 2]),
        ({"before": 1}, []),
        ({"before": 10_000, "limit": 2}, [22, 23]),
        ({"after": 0, "limit": 3}, [1, 2, 3]),
        ({"after": 20}, [21, 22, 23]),
        ({"after": COUNT}, []),
        ({"after": 10_000}, []),
    ],
)
async def test_slices(town: Town, query: dict[str, int], expected: list[int]) -> None:
    one, _other, room_id = await filled(town)
    page = await one.history(room_id, **query)
    assert seqs(page) == expected
    assert page["pagination"]["totalItems"] == COUNT


async def test_is_read_is_from_the_asking_side(town: Town) -> None:
    one, other, room_id = await town.pair()
    for number in range(3):
        await one.send(room_id, f"{number}")
    second = (await other.history(room_id))["messages"][1]

    async def read_flags(person: Person) -> list[bool]:
        return [message["isRead"] for message in (await person.history(room_id, after=0))["messages"]]

    assert await read_flags(one) == [False, False, False]
    assert await read_flags(other) == [False, False, False]
    await other.post(f"{MESSAGES}/chats/{room_id}/read", {"messageId": second["messageId"]})
    assert await read_flags(one) == [True, True, False]
    assert await read_flags(other) == [True, True, False]
    assert (await one.room(room_id))["lastMessage"]["isRead"] is False


async def test_history_carries_the_senders_present_name(town: Town) -> None:
    one, other, room_id = await town.pair()
    await one.send(room_id)
    renamed = await one.call("PATCH", "/api/v1/users/me", {"firstName": "Renamed"})
    assert renamed.status == 200, renamed
    message = (await other.history(room_id))["messages"][0]
    assert (message["senderId"], message["senderName"]) == (one.id, renamed.body["fullName"])


async def large_room(town: Town) -> tuple[Person, str]:
    one, _other, room_id = await town.pair()
    await asyncio.gather(*(one.send(room_id, LARGE_CONTENT) for _ in range(LARGE)))
    return one, room_id


async def read_bounded(person: Person, room_id: str, **query: int) -> dict[str, Any]:
    answer = await person.get(f"{MESSAGES}/chats/{room_id}/messages", **query)
    assert answer.status == 200, answer
    assert len(answer.raw) <= MOST_BYTES
    assert all(message["content"] == LARGE_CONTENT for message in answer.body["messages"])
    return dict(answer.body)


async def test_answers_are_bounded_in_bytes_and_say_what_came(town: Town) -> None:
    one, room_id = await large_room(town)
    page = await read_bounded(one, room_id, page=1, limit=200)
    pagination = page["pagination"]
    assert (pagination["totalItems"], pagination["hasNext"], pagination["hasPrev"]) == (LARGE, True, False)
    walked = seqs(page)
    assert 1 < len(walked) < LARGE and walked[-1] == pagination["nextBefore"]
    while pagination["hasNext"]:
        page = await read_bounded(one, room_id, before=walked[-1], limit=200)
        pagination = page["pagination"]
        assert pagination.get("nextBefore", 1) == page["messages"][0]["seq"]
        walked += reversed(seqs(page))
    assert walked == list(range(LARGE, 0, -1))
    walked, pagination = [], {"hasNext": True}
    while pagination["hasNext"]:
        page = await read_bounded(one, room_id, after=len(walked), limit=200)
        pagination = page["pagination"]
        assert pagination.get("nextAfter", LARGE) == page["messages"][-1]["seq"]
        walked += seqs(page)
    assert walked == list(range(1, LARGE + 1))


async def test_the_list_of_chats_is_bounded_in_bytes(town: Town) -> None:
    one, other = await town.people(2)
    rooms = {await one.open_room(other, f"{number}") for number in range(LARGE)}
    await asyncio.gather(*(one.send(room_id, LARGE_CONTENT) for room_id in rooms))
    listed: list[str] = []
    query: dict[str, str] = {}
    while len(listed) < LARGE:
        answer = await one.get(f"{MESSAGES}/chats", limit=100, **query)
        assert len(answer.raw) <= MOST_BYTES
        listed += [chat["chatId"] for chat in answer.body["chats"]]
        query = {"cursor": answer.body["nextCursor"]}
    assert set(listed) == rooms and len(listed) == LARGE
    assert query == {"cursor": None}
