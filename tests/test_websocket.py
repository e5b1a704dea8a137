"""WebSockets below Engine.IO: frames of every shape, closing, the upgrade from long-polling, and memory."""

import asyncio
import json
import os
import struct
from pathlib import Path

import pytest

from tests.conftest import Residents, StartServer
from tests.support.device import Device
from tests.support.people import Person, Town
from tests.support.poller import POLLING_PATH, Poller
from tests.support.raw_socket import CLOSE, PATH, PING, PONG, TEXT, RawSocket

FIN = 0x80
CONTINUATION = 0x0
# 42 KB was what a connection took while Engine.IO's and Tornado's own machinery stood behind each; 5 are measured.
MOST_BYTES_EACH = 15_000


def frame(
    payload: bytes, opcode: int = TEXT, *, first: int | None = None, mask: bytes | None = b"\x01\x80\xfe\x37"
) -> bytes:
    """One frame with a real mask, or with a first byte of one's own, or with no mask at all."""
    head = bytes((FIN | opcode if first is None else first,))
    bit = 0 if mask is None else 0x80
    size = bytes((bit | len(payload),)) if len(payload) < 126 else bytes((bit | 126,)) + struct.pack("!H", len(payload))
    if mask is None:
        return head + size + payload
    return head + size + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def question(number: int) -> bytes:
    return f'42/chat,{number}["presence:get",{{"userIds":[]}}]'.encode()


async def answer_to(raw: RawSocket, number: int) -> bool:
    return bool(json.loads(await raw.packet(f"43/chat,{number}"))[0]["ok"])


async def test_masked_frames_in_pieces_of_any_size(town: Town, residents: Residents) -> None:
    raw = await town.raw_chat(residents.alice.access_token)
    for byte in frame(question(1)):
        await raw.send_raw(bytes((byte,)))
    assert await answer_to(raw, 1)
    many = b"".join(frame(question(number)) for number in range(2, 500))
    await raw.send_raw(many[:-3])
    assert all([await answer_to(raw, number) for number in range(2, 499)])
    await raw.send_raw(many[-3:])
    assert await answer_to(raw, 499)


async def test_a_message_of_several_frames_with_a_ping_between_them(town: Town, residents: Residents) -> None:
    raw = await town.raw_chat(residents.alice.access_token)
    whole = question(1)
    await raw.send_raw(frame(whole[:10], first=TEXT))
    await raw.send_raw(frame(b"are you there?", PING) + frame(whole[10:20], first=CONTINUATION))
    heard = await raw.frame()
    assert (heard.opcode, heard.payload) == (PONG, b"are you there?")
    await raw.send_raw(frame(whole[20:], CONTINUATION))
    assert await answer_to(raw, 1)


async def test_a_close_is_answered_with_its_own_code(town: Town, residents: Residents) -> None:
    raw = await town.raw_chat(residents.alice.access_token)
    await raw.send_raw(frame(struct.pack("!H", 4321) + b"bye", CLOSE) + frame(question(1)))
    assert await raw.ending() == 4321
    raw = await town.raw_chat(residents.alice.access_token)
    await raw.send_raw(frame(b"", CLOSE))
    assert await raw.ending() is None


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(question(1), mask=None), 1002),
        (frame(question(1), first=FIN | 0x40 | TEXT), 1002),
        (frame(b"x" * 126, PING), 1002),
        (frame(b"x", first=PING), 1002),
        (frame(b"x", 0x3), 1002),
        (frame(b"x", 0xB), 1002),
        (frame(b"x", CONTINUATION), 1002),
        (frame(b"x", first=TEXT) + frame(b"y", first=TEXT), 1002),
        (frame(b"4\xff\xfe"), 1007),
        (frame(b"4" + b"x" * 60_000, first=TEXT) + frame(b"x" * 60_000, first=CONTINUATION) * 2, 1009),
        (bytes((FIN | TEXT, 0x80 | 127)) + struct.pack("!Q", 2**62), 1009),
    ],
    ids=[
        "no mask",
        "a reserved bit",
        "a long ping",
        "a ping in pieces",
        "an unknown kind",
        "an unknown control",
        "the rest of nothing",
        "a message within another",
        "no UTF-8",
        "too large in pieces",
        "too large by its head",
    ],
)
async def test_what_is_no_websocket_is_told_so_and_ended(quick_town: Town, sent: bytes, code: int) -> None:
    friend, person, _room = await quick_town.pair()
    witness = await friend.connect()
    raw = await quick_town.raw_chat(person.access_token)
    await witness.next("user:online")
    await raw.send_raw(sent)
    assert await raw.ending() == code
    await raw.close()
    await witness.next("user:offline")


async def test_a_client_that_answers_no_ping_is_ended(start_server: StartServer, town_at) -> None:
    town: Town = town_at(
        start_server({"socket.ping_interval": "200ms", "socket.ping_timeout": "400ms", "presence.grace": "0s"})
    )
    friend, person, _room = await town.pair()
    witness = await friend.connect()
    raw = await town.raw_chat(person.access_token)
    await witness.next("user:online")
    heard = []
    async with asyncio.timeout(30):
        while (told := await raw.frame()).opcode != CLOSE:
            heard.append(told.payload)
    assert b"2" in heard and heard[-1] == b"1"
    await witness.next("user:offline")
    # Who answers stays.
    assert (await witness.call("presence:get", {"userIds": [friend.id]}))["presence"][0]["isOnline"] is True


async def polling(town: Town) -> tuple[Poller, Device, Person, str]:
    """Someone who polls, and a device of a friend, with their room."""
    friend, person, room_id = await town.pair()
    witness, poller = await friend.connect(), Poller(town)
    await poller.begin(person)
    await witness.next("user:online")
    return poller, witness, person, room_id


def seqs(packets: list[str]) -> list[int]:
    """The numbers of the new messages among these packets."""
    return [
        json.loads(packet[packet.index("[") :])[1]["seq"]
        for packet in packets
        if packet.startswith('42/chat,["message:new"')
    ]


async def test_an_upgrade_in_the_middle_of_many_messages_keeps_all_and_their_order(quick_town: Town) -> None:
    poller, witness, _person, room_id = await polling(quick_town)

    async def send(count: int) -> None:
        for _ in range(count):
            assert (await witness.call("message:send", {"roomId": room_id, "content": "x"}))["ok"]

    await send(40)
    # At most 16 packets come with one poll; the others are on their way while the transport changes.
    heard = seqs(await poller.poll())
    raw = await quick_town.raw(path=f"{PATH}&sid={poller.sid}")
    await raw.send("2probe")
    assert await raw.text() == "3probe"
    await send(5)
    assert await poller.poll() == ["6"]
    await raw.send("5")
    await send(5)
    while len(heard) < 50:
        heard += seqs([await raw.text()])
    assert heard == list(range(1, 51))
    assert (await raw.acked("presence:get", {"userIds": []}))["ok"]
    assert (await quick_town.rest.call("GET", f"{POLLING_PATH}&sid={poller.sid}")).status == 400
    assert (await quick_town.raw(path=f"{PATH}&sid={poller.sid}")).status == 400
    await raw.close()
    await witness.next("user:offline")


@pytest.mark.parametrize("said", [None, "x", "5", "42/chat,[]", "2"], ids=["nothing", "x", "upgrade", "event", "ping"])
async def test_a_websocket_that_does_not_ask_to_take_over_is_closed_and_polling_goes_on(
    quick_town: Town, said: str | None
) -> None:
    poller, witness, _person, room_id = await polling(quick_town)
    raw = await quick_town.raw(path=f"{PATH}&sid={poller.sid}")
    if said is not None:
        await raw.send(said)
    await raw.ended(15)
    assert (await witness.call("message:send", {"roomId": room_id, "content": "x"}))["ok"]
    heard: list[int] = []
    while not heard:
        heard = seqs(await poller.poll())
        await poller.say("3")
    assert heard == [1]


async def test_two_websockets_cannot_take_over_the_same_session(quick_town: Town) -> None:
    poller, witness, _person, room_id = await polling(quick_town)
    first, second = [await quick_town.raw(path=f"{PATH}&sid={poller.sid}") for _ in range(2)]
    for raw in (first, second):
        await raw.send("2probe")
        assert await raw.text() == "3probe"
    await first.send("5")
    assert (await first.acked("presence:get", {"userIds": []}))["ok"]
    await second.send("5")
    await second.ended()
    await witness.call("message:send", {"roomId": room_id, "content": "x"})
    assert (await first.event("message:new"))["seq"] == 1


async def test_polls_that_still_wait_at_an_upgrade_end_and_do_no_harm(start_server: StartServer, town_at) -> None:
    town: Town = town_at(start_server({"socket.ping_interval": "1s", "socket.ping_timeout": "1s"}))
    poller, _witness, _person, _room_id = await polling(town)
    waiting = [asyncio.ensure_future(poller.poll()) for _ in range(3)]
    # Each is at the server once one that was asked later is answered.
    for _ in waiting:
        await asyncio.sleep(0)
        assert (await town.rest.call("GET", "/healthz")).status == 200
    raw = await town.raw(path=f"{PATH}&sid={poller.sid}")
    await raw.send("2probe")
    assert await raw.text() == "3probe"
    await raw.send("5")
    # Longer than the library lets a poll wait: its failing would end the session. Other news may come between.
    pings = 0
    while pings < 4:
        if (await raw.frame()).payload == b"2":
            pings += 1
            await raw.send("3")
    await asyncio.gather(*waiting)
    assert (await raw.acked("presence:get", {"userIds": []}))["ok"]


async def test_leaving_and_coming_again_on_one_websocket(quick_town: Town) -> None:
    friend, person, room_id = await quick_town.pair()
    witness = await friend.connect()
    raw = await quick_town.raw_chat(person.access_token)
    await witness.next("user:online")
    await raw.send("41/chat,")
    await witness.next("user:offline")
    await raw.enter_chat(person.access_token)
    await witness.next("user:online")
    await witness.call("message:send", {"roomId": room_id, "content": "x"})
    assert (await raw.event("message:new"))["seq"] == 1
    await raw.send("41/chat,")
    await raw.ended(15)


async def test_the_authorization_header_holds_for_the_whole_session(quick_town: Town) -> None:
    person = await quick_town.person()
    raw = await quick_town.raw_session(headers={"Authorization": f"Bearer {person.access_token}"})
    for _ in range(2):
        await raw.send("40/chat,")
        await raw.packet("40/chat,")
        assert (await raw.acked("presence:get", {"userIds": [person.id]}))["presence"][0]["isOnline"] is True
        await raw.send("41/chat,")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
async def test_an_idle_connection_costs_little(start_server: StartServer, town_at) -> None:
    server = start_server()
    town: Town = town_at(server)
    person = await town.person()

    def memory() -> int:
        lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    async def open_many(count: int) -> list[RawSocket]:
        return [await town.raw_chat(person.access_token) for _ in range(count)]

    # What the first ones need once is not counted.
    opened = await open_many(50)
    before, count = memory(), 400
    opened += await open_many(count)
    each = (memory() - before) / count
    assert each < MOST_BYTES_EACH, f"{each:.0f} bytes for each connection"
    assert len(os.listdir(f"/proc/{server.pid}/fd")) > len(opened)
