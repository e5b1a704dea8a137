"""How many sockets one user may have, and how often they may come."""

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
