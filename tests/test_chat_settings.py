"""A member's own settings of a room: by REST and socket, on all their devices, and nobody else's business."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support import groups
from tests.support.people import Person, Town
from tests.support.rest import MESSAGES, Answer
from tests.support.shapes import check_problem, check_refused

DEFAULTS = {"mutedUntil": None, "notify": "ALL", "pinned": False, "archived": False}


async def patch(person: Person, room_id: str, **fields: Any) -> Answer:
    return await person.call("PATCH", f"{MESSAGES}/chats/{room_id}/settings", fields)


async def settings(person: Person, room_id: str) -> dict[str, Any]:
    line = next(chat for chat in (await person.chats())["chats"] if chat["chatId"] == room_id)
    one = await person.get(f"{MESSAGES}/chats/{room_id}")
    assert one.body["settings"] == line["settings"]
    return dict(line["settings"])


def later(**amount: float) -> str:
    return (datetime.now(UTC) + timedelta(**amount)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


async def test_what_is_left_out_stays(town: Town) -> None:
    one, other, room_id = await town.pair()
    assert await settings(one, room_id) == DEFAULTS
    muted = later(hours=8)
    answer = await patch(one, room_id, mutedUntil=muted, pinned=True)
    assert (answer.status, answer.body) == (200, {**DEFAULTS, "mutedUntil": muted, "pinned": True})
    answer = await patch(one, room_id, notify="MENTIONS", archived=True)
    assert answer.body == {"mutedUntil": muted, "notify": "MENTIONS", "pinned": True, "archived": True}
    assert await settings(one, room_id) == answer.body
    assert await settings(other, room_id) == DEFAULTS, "mine alone"
    back = await patch(one, room_id, mutedUntil=None, notify="ALL", pinned=False, archived=False)
    assert back.body == await settings(one, room_id) == DEFAULTS


async def test_muted_for_ever_or_until_a_time_that_comes(town: Town) -> None:
    one, _other, room_id = await town.pair()
    assert (await patch(one, room_id, mutedUntil="FOREVER")).body["mutedUntil"] == "FOREVER"
    assert (await patch(one, room_id, mutedUntil=later(hours=-1))).body["mutedUntil"] is None, "that is over"
    zoned = await patch(one, room_id, mutedUntil="2999-01-01T09:00:00.5+09:00")
    assert zoned.body["mutedUntil"] == "2999-01-01T00:00:00.500Z"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("mutedUntil", value) for value in ("soon", "", "2999-01-01", "2999-01-01T00:00:00", 5, True, [])),
        ("mutedUntil", "9999-12-31T23:59:59-12:00"),
        *(("notify", value) for value in ("SOME", None, 1)),
        *(("pinned", value) for value in ("yes", None, 1)),
        *(("archived", value) for value in ("yes", None, 1)),
    ],
)
async def test_bad_values_are_named_and_change_nothing(town: Town, field: str, value: Any) -> None:
    one, _other, room_id = await town.pair()
    check_problem(await patch(one, room_id, **{"pinned": True, field: value}), "VALIDATION_FAILED", field)
    assert await settings(one, room_id) == DEFAULTS


async def test_other_sockets_of_mine_hear_of_it_and_no_others(town: Town) -> None:
    one, other, room_id = await town.pair()
    phone, laptop, theirs = await one.connect(), await one.connect(), await other.connect()
    ack = await phone.call("chat:settings", {"roomId": room_id, "archived": True})
    assert ack == {"ok": True, "settings": {**DEFAULTS, "archived": True}}
    assert await laptop.next("chat:settings") == {"roomId": room_id, "settings": ack["settings"]}
    await patch(one, room_id, pinned=True)
    for device in (phone, laptop):
        heard = await device.next("chat:settings", lambda data: data["settings"]["pinned"])
        assert heard["settings"] == {**DEFAULTS, "archived": True, "pinned": True}
    await theirs.round_trip()
    assert theirs.heard("chat:settings") == [] and len(phone.heard("chat:settings")) == 1


async def test_rooms_of_others_are_not_there(town: Town) -> None:
    one, _other, room_id = await town.pair()
    stranger = await town.person()
    refused = await patch(stranger, room_id, pinned=True)
    check_problem(refused, "NOT_FOUND")
    assert refused.body == (await patch(stranger, "unknown", pinned=True)).body
    check_refused(await (await stranger.connect()).call("chat:settings", {"roomId": room_id}), "NOT_FOUND")
    assert await settings(one, room_id) == DEFAULTS


async def test_they_go_with_the_membership(town: Town) -> None:
    owner, member = await town.people(2)
    room_id = await groups.make(owner, member, visibility="OPEN")
    await patch(member, room_id, pinned=True, mutedUntil="FOREVER")
    assert (await groups.remove(member, room_id, "me")).status == 204
    assert (await member.post(f"{groups.ROOMS}/{room_id}/join", {})).status == 200
    assert await settings(member, room_id) == DEFAULTS


async def test_they_survive_a_kill(start_server: StartServer, town_at: Any) -> None:
    server = start_server()
    one, _other, room_id = await town_at(server).pair()
    kept = (await patch(one, room_id, notify="NONE", mutedUntil="FOREVER")).body
    server.kill()
    server.start()
    assert await settings(town_at(server).resident(one), room_id) == kept
