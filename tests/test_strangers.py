"""Users who are not in a room get the same answer as for a room that does not exist, whatever they send."""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from tests.conftest import StartServer
from tests.support.people import Person, Town
from tests.support.rest import MESSAGES, NOTHING
from tests.support.routes import UNKNOWN
from tests.support.shapes import check_refused
from tests.support.waiting import eventually

LONG = "x" * 10_001
CONTENTS: list[dict[str, Any]] = [
    {"content": "x"},
    {"content": ""},
    {"content": " \n\t"},
    {"content": LONG},
    {"content": 7},
    {"content": None},
    {"content": "x", "type": "SOUND"},
    {"content": "x", "type": "IMAGE"},
    {"content": "x", "clientMessageId": "x" * 65},
    {"content": "x", "attachmentUrl": "javascript:alert(1)"},
    {"content": "x", "attachmentUrl": "/uploads/" + "0" * 32},
    {},
]
ROOM_EVENTS = ("typing:start", "typing:stop", "room:join", "room:leave")
MESSAGE_EVENTS = ("message:read", "message:delivered")
EVENTS: list[tuple[str, dict[str, Any]]] = [
    *(("message:send", {"roomId": "{room}", **content}) for content in CONTENTS),
    *((event, payload) for event in ROOM_EVENTS for payload in ({"roomId": "{room}"}, {"roomId": ["{room}"]})),
    *((event, payload) for event in MESSAGE_EVENTS for payload in ({"messageId": "{message}"}, {"messageId": 7})),
    ("sync", {"rooms": {"{room}": 0}}),
    ("sync", {"rooms": {"{room}": 10**6}}),
    ("sync", {"rooms": {"{room}": -1}}),
    ("sync", {"rooms": {"{room}": "x"}}),
]
CHAT = f"{MESSAGES}/chats/{{room}}"
CALLS: list[tuple[str, str, Any]] = [
    *(("POST", f"{CHAT}/messages", content) for content in CONTENTS),
    ("GET", f"{MESSAGES}/chat-rooms/{{room}}", NOTHING),
    *(("GET", f"{CHAT}/messages{query}", NOTHING) for query in ("", "?limit=0", "?page=1&before=2", "?after=-1")),
    *(("POST", f"{CHAT}/read", body) for body in ({"messageId": "{message}"}, {"messageId": ""}, {})),
]


def filled(template: Any, room_id: str, message_id: str) -> Any:
    if template is NOTHING:
        return template
    text = json.dumps(template).replace("{room}", room_id).replace("{message}", message_id)
    return json.loads(text)


async def answers(stranger: Person, rooms: Iterator[tuple[str, str]]) -> list[Any]:
    """What each event and each call is answered, each on the next room, with the room's id and message taken out."""
    device = await stranger.connect()
    found: list[Any] = []
    for event, payload in EVENTS:
        room_id, message_id = next(rooms)
        ack = await device.call(event, filled(payload, room_id, message_id))
        found.append((event, json.dumps(payload)[:200], json.dumps(ack).replace(room_id, "{room}")))
    for method, path, body in CALLS:
        ids = next(rooms)
        answer = await stranger.call(method, filled(path, *ids), filled(body, *ids))
        found.append((method, path, json.dumps(body, default=str)[:200], answer.status, answer.raw))
    return found


async def test_bad_content_tells_no_stranger_which_rooms_there_are(start_server: StartServer, town_at: Any) -> None:
    process = start_server()
    town: Town = town_at(process)
    one, other, stranger = await town.people(3)
    ids = []
    for number in range(len(EVENTS) + len(CALLS)):
        room_id = await one.open_room(other, f"{number}")
        ids.append((room_id, (await one.send(room_id))["messageId"]))
    cached = await answers(stranger, iter(ids))
    process.stop()
    process.restart()  # none of these rooms is in memory now, and each is asked for once
    stranger = town_at(process).resident(stranger)
    nowhere = await answers(stranger, itertools.repeat((UNKNOWN, UNKNOWN)))
    assert await answers(stranger, iter(ids)) == nowhere
    assert cached == nowhere


async def test_every_send_and_every_malformed_event_is_counted(start_server: StartServer, town_at: Any) -> None:
    settings = {"limits.enabled": True, "limits.messages": 1, "limits.messages_burst": 3, "limits.events": 2}
    town: Town = town_at(start_server(settings))

    async def is_limited(send: Callable[[], Awaitable[str]]) -> None:
        async def is_refused() -> bool:
            return await send() == "RATE_LIMITED"

        await eventually(is_refused, "it is counted")

    async def emits(stranger: Person, content: dict[str, Any]) -> None:
        device = await stranger.connect()

        async def emit() -> str:
            return str((await device.call("message:send", {"roomId": UNKNOWN, **content}))["error"]["code"])

        await is_limited(emit)

    async def posts(stranger: Person, content: dict[str, Any]) -> None:
        async def post() -> str:
            return str((await stranger.post(f"{MESSAGES}/chats/{UNKNOWN}/messages", content)).body["code"])

        await is_limited(post)

    async def garbles(stranger: Person, packet: str) -> None:
        raw = await town.raw_chat(stranger.access_token)

        async def garble() -> str:
            await raw.send(packet)
            ack = json.loads(await raw.packet("43/chat,1"))[0]
            check_refused(ack, ack["error"]["code"])
            return str(ack["error"]["code"])

        await is_limited(garble)

    contents = ({"content": " "}, {"content": LONG}, {"content": 7})
    packets = ("42/chat,1[]", "42/chat,1[7]", "42/chat,1{", '42/chat,1["no such"]', '451-/chat,1["message:send"]')
    strangers = iter(await town.people(2 * len(contents) + len(packets)))
    await asyncio.gather(
        *(emits(next(strangers), content) for content in contents),
        *(posts(next(strangers), content) for content in contents),
        *(garbles(next(strangers), packet) for packet in packets),
    )
