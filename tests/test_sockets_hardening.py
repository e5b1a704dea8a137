"""The socket layer against clients that break the rules: forged events, binary data, garbage, floods, silence."""

import asyncio
import json
import time

import pytest

from tests.conftest import Residents, StartServer
from tests.support.device import DEADLINE, Device
from tests.support.people import Person, Town, unique
from tests.support.raw_socket import BINARY, PATH, RawSocket
from tests.support.shapes import check_error, check_refused
from tests.support.waiting import eventually

POLLING_PATH = "/socket.io/?EIO=4&transport=polling"


async def watched(town: Town) -> tuple[Person, RawSocket, Device, str]:
    """Someone on a raw socket, and a device of a friend who sees them come and go; with their room."""
    friend, person, room_id = await town.pair()
    witness = await friend.connect()
    raw = await town.raw_chat(person.access_token)
    await witness.next("user:online")
    return person, raw, witness, room_id


async def still_serves(town: Town) -> None:
    one, _other, room_id = await town.pair()
    device = await one.connect()
    assert (await device.call("message:send", {"roomId": room_id, "content": "x"}))["ok"]


@pytest.mark.parametrize("event", ["connect", "disconnect", "connect_error", "message", "ping", "*", "", "__proto__"])
async def test_events_that_no_client_may_send(quick_town: Town, event: str) -> None:
    person, raw, witness, _room = await watched(quick_town)
    check_refused(await raw.acked(event, {"token": "x"}), "NOT_FOUND")
    await raw.emit(event, "transport close")
    assert (await raw.event("exception"))["event"] == event
    assert (await raw.acked("presence:get", {"userIds": [person.id]}, 2))["presence"][0]["isOnline"] is True
    await witness.round_trip()
    assert witness.heard("user:offline") == []
    assert len(witness.heard("user:online")) == 1


@pytest.mark.parametrize("name", ["7", "null", '{"a":1}', "[]", "true"])
async def test_an_event_whose_name_is_no_text(quick_town: Town, name: str) -> None:
    _person, raw, _witness, _room = await watched(quick_town)
    await raw.send(f"42/chat,1[{name},{{}}]")
    try:
        answer = json.loads(await raw.packet("43/chat,1"))[0]
        check_refused(answer, answer["error"]["code"])
    except ConnectionError:
        pass  # ending such a connection is as good
    await raw.close()
    await still_serves(quick_town)


async def test_a_binary_event_is_bad_input(town: Town, residents: Residents) -> None:
    raw = await town.raw_chat(residents.alice.access_token)
    await raw.send('451-/chat,1["message:send",{"_placeholder":true,"num":0}]')
    check_refused(json.loads(await raw.packet("43/chat,1"))[0], "VALIDATION_FAILED")
    await raw.close()
    for payload, path in (
        ('{"roomId":"x","content":{"_placeholder":true,"num":0}}', "content"),
        ('{"content":[1,{"data":{"_placeholder":true,"num":0}}]}', "content[1].data"),
        ('{"_placeholder":true,"num":0}', ""),
    ):
        raw = await town.raw_chat(residents.alice.access_token)
        await raw.send(f'451-/chat,["message:send",{payload}]')
        error = await raw.event("exception")
        check_error(error, "VALIDATION_FAILED", path)
        assert error["event"] == "message:send"
        await raw.close()


@pytest.mark.parametrize(
    "send",
    [
        lambda raw: raw.send(b"\x04\x00\x01"),
        lambda raw: raw.send(b"", BINARY),
        lambda raw: raw.send("x"),
        lambda raw: raw.send(""),
        lambda raw: raw.send("9"),
        lambda raw: raw.send("42/chat,{not json"),
        lambda raw: raw.send("42/chat,1" + "[" * 5000),
        lambda raw: raw.send("48/chat,"),
        lambda raw: raw.send("42/chat," + "1" * 200 + '["x"]'),
        lambda raw: raw.send("451000000-/chat,[]"),
        lambda raw: raw.send("42/chat," + "[]"),
        lambda raw: raw.send_raw(b"\xff" * 64),
        lambda raw: raw.send_raw(b"\x81\x05hello"),
        lambda raw: raw.send("4" + "x" * 200_000),
        lambda raw: raw.send(b"\xff\xfe\xfd", 0x1),
    ],
    ids=range(15),
)
async def test_garbage_costs_its_sender_the_connection_at_most(quick_town: Town, send: object) -> None:
    """Whatever happens to the sender, nobody stays online as a ghost and the server goes on."""
    _person, raw, witness, _room = await watched(quick_town)
    try:
        await send(raw)
        answer = await asyncio.wait_for(raw.acked("presence:get", {"userIds": []}, 77), DEADLINE)
        assert answer["ok"] is True
    except (ConnectionError, EOFError):
        await witness.next("user:offline", timeout=10)
    await raw.close()
    await still_serves(quick_town)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (PATH.replace("EIO=4", "EIO=3"), {}),
        (PATH.replace("EIO=4&", ""), {}),
        (PATH, {"Origin": "https://evil.example.com"}),
        (f"{PATH}&sid=made-up", {}),
        (PATH.replace("websocket", "pigeon"), {}),
    ],
    ids=["old protocol", "no protocol", "foreign page", "made-up session", "unknown transport"],
)
async def test_a_rejected_connection_is_closed(town: Town, path: str, headers: dict[str, str]) -> None:
    raw = await town.raw(path=path, headers=headers)
    if raw.status == 101:
        await raw.ended(15)
    else:
        assert raw.status in (400, 403, 404), raw.status


async def test_a_foreign_page_is_refused_before_the_upgrade(town: Town) -> None:
    raw = await town.raw(headers={"Origin": "https://evil.example.com"})
    assert raw.status == 403


async def test_a_session_that_never_authenticates_is_ended(quick_town: Town) -> None:
    raw = await quick_town.raw_session()
    await raw.ended(15)  # the ping timeout alone would take 20 s
    await raw.close()
    opening = await quick_town.rest.call("GET", POLLING_PATH)
    session = json.loads(opening.raw[1:])["sid"]

    async def unknown() -> bool:
        return (await quick_town.rest.call("GET", f"{POLLING_PATH}&sid={session}")).status == 400

    await eventually(unknown, "the polling session is gone", 15)


async def test_no_other_namespace_can_be_entered(town: Town, residents: Residents) -> None:
    for namespace in ("", "/admin,", "/chat/x,"):
        raw = await town.raw_session()
        await raw.send(f"40{namespace}" + json.dumps({"token": residents.alice.access_token}))
        assert (await raw.text()).startswith("44")


async def test_entering_twice_does_not_double_anything(quick_town: Town) -> None:
    person, raw, witness, room_id = await watched(quick_town)
    await raw.send("40/chat," + json.dumps({"token": person.access_token}))
    await person.send(room_id, "once")
    await person.send(room_id, "fence")
    texts = []
    try:
        while "fence" not in (text := await raw.text()):
            texts.append(text)
        assert sum('"once"' in text for text in texts) == 1
    except ConnectionError:
        pass  # ending such a connection is as good
    await raw.close()
    await witness.next("user:offline", timeout=10)


async def test_a_flood_is_limited_and_says_when_to_come_back(start_server: StartServer, town_at) -> None:
    settings = {"limits.enabled": True, "limits.messages": 5, "limits.messages_burst": 20, "limits.events": 50}
    town: Town = town_at(start_server(settings))
    one, other, room_id = await town.pair()
    device, ear = await one.connect(), await other.connect()
    calls = [device.call("message:send", {"roomId": room_id, "content": f"{number}"}) for number in range(60)]
    acks = await asyncio.gather(*calls)
    stored = [ack["message"]["seq"] for ack in acks if ack["ok"]]
    refused = [ack for ack in acks if not ack["ok"]]
    assert len(stored) >= 20 and refused
    for ack in refused:
        check_refused(ack, "RATE_LIMITED")
        assert ack["error"]["retryAfter"] >= 1
    assert stored == list(range(1, len(stored) + 1))
    answers = await asyncio.gather(
        *(one.post(f"/api/v1/messages/chats/{room_id}/messages", {"content": "x"}) for _ in range(30))
    )
    limited = [answer for answer in answers if answer.status == 429]
    assert limited and all(int(answer.headers["Retry-After"]) >= 1 for answer in limited)
    acks = await asyncio.gather(*(ear.call("typing:start", {"roomId": room_id}) for _ in range(200)))
    assert {ack.get("error", {}).get("code") for ack in acks} == {None, "RATE_LIMITED"}
    assert (await other.send(room_id, "not limited by others"))["messageId"]


async def test_thousands_of_events_at_once_are_all_answered_and_hold_nobody_up(town: Town) -> None:
    person = await town.person()
    raw = await town.raw_chat(person.access_token)
    count = 3000

    async def pour() -> None:
        for number in range(count):
            await raw.emit("presence:get", {"userIds": [person.id]}, ack=number)

    async def drink() -> list[str]:
        return [(await raw.packet("43/chat,")).split("[", 1)[0] for _ in range(count)]

    pouring, drinking = asyncio.create_task(pour()), asyncio.create_task(drink())
    await still_serves(town)
    await pouring
    assert sorted(map(int, await drinking)) == list(range(count))


async def test_a_client_that_stops_reading_is_cut_off(quick_town: Town) -> None:
    person, raw, witness, room_id = await watched(quick_town)
    await raw.close()
    await witness.next("user:offline")
    raw = await quick_town.raw_chat(person.access_token, receive_buffer=8192)
    large = "한" * 10_000
    until = time.monotonic() + 15  # the ping timeout alone would take 20 s

    async def cut_off() -> bool:
        assert time.monotonic() < until, "the slow reader is still connected"
        for _ in range(20):
            await witness.call("message:send", {"roomId": room_id, "content": large})
        return bool([told for told in witness.heard("user:offline")[1:] if told["userId"] == person.id])

    await eventually(cut_off, "the slow reader is cut off")
    await raw.close()
    await still_serves(quick_town)


async def test_a_burst_of_long_messages_cuts_nobody_who_reads(town: Town) -> None:
    """The answers of one group commit can be more at once than a slow reader may leave unread."""
    sender, recipient, room_id = await town.pair()
    here, there = await sender.connect(), await recipient.connect()
    count, payload = 50, {"roomId": room_id, "content": "한" * 10_000}
    answers = await asyncio.gather(*(here.call("message:send", payload) for _ in range(count)))
    assert [answer["message"]["seq"] for answer in answers] == list(range(1, count + 1))
    for device in (here, there):
        assert [(await device.next("message:new"))["seq"] for _ in range(count)] == list(range(1, count + 1))


async def test_compression_is_off(town: Town, residents: Residents) -> None:
    raw = await town.raw(headers={"Sec-WebSocket-Extensions": "permessage-deflate"})
    assert raw.status == 101
    assert "permessage-deflate" not in raw.response_head.lower()
    await raw.close()
    assert residents.room_id


async def test_a_polling_body_that_is_too_large_or_garbage(town: Town) -> None:
    opening = await town.rest.call("GET", POLLING_PATH)
    session = f"{POLLING_PATH}&sid={json.loads(opening.raw[1:])['sid']}"
    for body in (b"4" + b"x" * 300_000, b"\xff\xfe", b"", b"\x1e" * 1000, unique().encode()):
        answer = await town.rest.call("POST", session, body, headers={"Content-Type": "text/plain"})
        assert answer.status in (200, 400, 413), (body[:10], answer)
    await still_serves(town)
