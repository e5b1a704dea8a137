"""Groups for tests, and what tests look at in them."""

from typing import Any

from tests.support.people import Person, Town
from tests.support.rest import MESSAGES, Answer

ROOMS = f"{MESSAGES}/chat-rooms"


async def make(owner: Person, *others: Person, **fields: Any) -> str:
    body = {"type": "GROUP", "name": "Yard", "userIds": [other.id for other in others], **fields}
    answer = await owner.post(ROOMS, body)
    assert answer.status == 201, answer
    return str(answer.body["id"])


async def people(town: Town, count: int) -> list[Person]:
    return [await town.person() for _ in range(count)]


async def notices(person: Person, room_id: str) -> list[dict[str, Any]]:
    page = await person.history(room_id, after=0)
    return [message["notice"] for message in page["messages"] if message["type"] == "NOTICE"]


async def chat(person: Person, room_id: str) -> dict[str, Any]:
    chats = (await person.get(f"{MESSAGES}/chats")).body["chats"]
    return next((one for one in chats if one["chatId"] == room_id), {})


async def remove(person: Person, room_id: str, who: str) -> Answer:
    return await person.call("DELETE", f"{ROOMS}/{room_id}/members/{who}")


async def everybody(person: Person, room_id: str) -> list[dict[str, Any]]:
    """All members of a group, however many there are, as the list of them has it."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        query = {"limit": 100} | ({} if cursor is None else {"cursor": cursor})
        answer = await person.get(f"{ROOMS}/{room_id}/members", **query)
        assert answer.status == 200, answer
        found += answer.body["members"]
        cursor = answer.body["nextCursor"]
        if cursor is None:
            return found
