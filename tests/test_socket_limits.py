"""Limits of sockets and of the rate of connects of one user."""

import asyncio
import json
from typing import Any

from tests.conftest import StartServer
from tests.support.people import Person, Town
from tests.support.raw_socket import RawSocket
from tests.support.shapes import check_refused
from tests.support.waiting import eventually

MOST = 3


async def entering(raw: RawSocket, person: Person) -> Any:
    """What a CONNECT is refused with; None where it is taken."""
    await raw.send(f"40/chat,{json.dumps({'token': person.access_token})}")
    while True:
        text = await raw.text()
        if text.startswith("40/chat,"):
            return None
        if text.startswith("44/chat,"):
            return json.loads(text[len("44/chat,") :])


def check_limited(refusal: Any) -> None:
    assert refusal["message"] == "RATE_LIMITED"
    check_refused({"ok": False, "error": refusal["data"]}, "RATE_LIMITED")
    assert refusal["data"]["retryAfter"] >= 1


async def test_one_user_has_a_bounded_number_of_sockets(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"limits.enabled": True, "socket.max_per_user": MOST}))
    person, friend, _room = await town.pair()
    raws = [await town.raw_session() for _ in range(3 * MOST)]
    refusals = await asyncio.gather(*(entering(raw, person) for raw in raws))
    assert refusals.count(None) == MOST
    for refusal in refusals:
        if refusal is not None:
            check_limited(refusal)
    assert await entering(await town.raw_session(), friend) is None
    await raws[refusals.index(None)].close()

    async def has_room() -> bool:
        return await entering(await town.raw_session(), person) is None

    await eventually(has_room, "there is room for another")


async def test_coming_and_going_is_limited_like_other_events(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"limits.enabled": True, "limits.events": 1}))
    person = await town.person()
    raw = await town.raw_session()
    assert await entering(raw, person) is None
    refusal = None
    while refusal is None:
        await raw.send("41/chat,")
        refusal = await entering(raw, person)
    check_limited(refusal)


async def test_a_large_payload_counts_as_many_events(start_server: StartServer, town_at: Any) -> None:
    events = 50
    town: Town = town_at(start_server({"limits.enabled": True, "limits.events": events}))
    small, large, wrong, broken = await town.people(4)
    rooms = {f"{number:x}": 0 for number in range(4000)}
    assert await answered(town, small, 2 * events, {"rooms": {}}) >= 2 * events - 1
    # About 40 KiB each: two or three of them are as much as may come at once.
    assert await answered(town, large, 10, {"rooms": rooms}) <= 4
    assert await answered(town, wrong, 10, {"rooms": {**rooms, "x": "x"}}) <= 4
    assert await answered(town, broken, 10, '{"rooms": [' + "[]," * 14_000) <= 4


async def test_the_largest_payload_of_all_is_let_in(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"limits.enabled": True, "limits.events": 1}))
    raw = await town.raw_chat((await town.person()).access_token)

    async def is_let_in() -> bool:
        ack = await raw.acked("presence:get", {"userIds": [], "more": "x" * 100_000})
        return bool(ack["ok"])

    # More than there are tokens in all: it takes them all, and is not refused for ever.
    await eventually(is_let_in, "it is let in once all tokens are there")


async def answered(town: Town, person: Person, times: int, payload: Any) -> int:
    """How many of so many `sync` at once were not refused for their number."""
    raw = await town.raw_chat(person.access_token)
    text = payload if isinstance(payload, str) else json.dumps(payload)
    await raw.send_raw(b"".join(raw.encode(f'42/chat,{number}["sync",{text}]') for number in range(times)))
    acks = [await raw.packet("43/chat,") for _ in range(times)]
    refused = sum('"RATE_LIMITED"' in ack for ack in acks)
    return times - refused
