"""Offline queues of more than one piece: what is flushed, and when the next piece goes out."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from server.config.load import load
from server.context import open_context
from server.storage.redis.offline_queues import Entry, Place
from tests.conftest import StartServer
from tests.support.people import Person, Town, unique
from tests.support.poller import Poller
from tests.support.raw_socket import RawSocket
from tests.support.server_process import ROOT

LONG = "한" * 10_000
OFFLINE = "messages:offline"
# One piece and its copies; the kernel's own buffers are not the process's.
MOST_BYTES_EACH = 4 * 1024 * 1024


async def leave_waiting(one: Person, room_id: str, count: int) -> None:
    """Send that many long messages to somebody who is away."""
    sender, payload = await one.connect(), {"roomId": room_id, "content": LONG}
    for start in range(0, count, 50):
        calls = (sender.call("message:send", payload) for _ in range(min(50, count - start)))
        assert all(answer["ok"] for answer in await asyncio.gather(*calls))


async def read(raw: RawSocket, *, until: int, new: int) -> dict[str, list[int]]:
    """The numbers of the messages of each event, without a word of one's own, until number `until` and `new` new ones
    have come.
    """
    heard: dict[str, list[int]] = {OFFLINE: [], "message:new": []}
    while len(heard["message:new"]) < new or not any(until in seqs for seqs in heard.values()):
        frame = await raw.frame()
        if frame.payload.startswith(b"42/chat,"):
            event, data = json.loads(frame.payload[frame.payload.index(b"[") :])
            if event in heard:
                heard[event] += [message["seq"] for message in (data if event == OFFLINE else [data])]
    return heard


async def test_long_messages_come_in_pieces_that_every_client_takes(town: Town) -> None:
    """The clients of python-socketio refuse a frame of more than 4 MiB; a batch of long messages is far above that."""
    one, other, room_id = await town.pair()
    count, have = 160, 0
    await leave_waiting(one, room_id, count)
    device = await other.connect()
    waited: list[int] = []
    while len(waited) < count:
        waited += [message["seq"] for message in await device.next(OFFLINE)]
    assert waited == list(range(1, count + 1))
    while have < count:
        room = (await device.call("sync", {"rooms": {room_id: have}}))["rooms"][0]
        seqs = [message["seq"] for message in room["messages"]]
        assert seqs and seqs == list(range(have + 1, have + 1 + len(seqs)))
        have = seqs[-1]
        assert room["hasMore"] == (have < count)
    assert not device.is_gone


async def test_who_reads_slowly_and_says_nothing_gets_all_of_it_and_what_is_new_once(town: Town) -> None:
    one, other, room_id = await town.pair()
    count, fresh = 400, 20
    await leave_waiting(one, room_id, count)
    raw = await town.raw_chat(other.access_token, receive_buffer=8192)
    for _ in range(fresh):
        await one.send(room_id)
    async with asyncio.timeout(20):  # the first ping would come later
        heard = await read(raw, until=count, new=fresh)
    assert heard == {OFFLINE: list(range(1, count + 1)), "message:new": list(range(count + 1, count + fresh + 1))}


async def test_who_polls_gets_all_of_it(town: Town) -> None:
    one, other, room_id = await town.pair()
    count, poller = 100, Poller(town)
    await leave_waiting(one, room_id, count)
    await poller.begin(other)
    waited: list[int] = []
    while len(waited) < count:
        for packet in await poller.poll():
            if OFFLINE in packet[:40]:
                waited += [message["seq"] for message in json.loads(packet[packet.index("[") :])[1]]
    assert waited == list(range(1, count + 1))


async def test_what_another_device_acknowledged_meanwhile_does_not_come_and_what_it_did_not_does(town: Town) -> None:
    one, other, room_id = await town.pair()
    count = 400
    await leave_waiting(one, room_id, count)
    slow = await town.raw_chat(other.access_token, receive_buffer=8192)
    # It has begun to get them, and takes no more for now.
    assert json.loads(await slow.packet("42/chat,1"))[0] == OFFLINE
    quick = await other.connect()
    waited: list[int] = []
    while len(waited) < count:
        waited += [message["seq"] for message in await quick.next(OFFLINE)]
    await quick.round_trip()
    await one.send(room_id)
    heard = await read(slow, until=count + 1, new=1)
    assert heard["message:new"] == [count + 1]
    assert heard[OFFLINE] == sorted(set(heard[OFFLINE])) and len(heard[OFFLINE]) < count


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
async def test_sockets_that_do_not_read_cost_one_piece_each(start_server: StartServer, town_at: Any) -> None:
    server = start_server()
    town: Town = town_at(server)
    one, other, room_id = await town.pair()
    await leave_waiting(one, room_id, 400)

    def memory() -> int:
        lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    before, count = memory(), 20
    for _ in range(count):
        raw = await town.raw_chat(other.access_token, receive_buffer=8192)
        await raw.packet("42/chat,1")
    each = (memory() - before) / count
    assert each < MOST_BYTES_EACH, f"{each:.0f} bytes for each"


async def test_a_queue_is_read_on_where_entries_have_gone_meanwhile(tmp_path: Path) -> None:
    settings = load(ROOT / "config.yaml", [f"data_dir={tmp_path / 'data'}"], {})
    async with open_context(settings) as context:
        queues, user_id = context._stores.offline_queues, unique("user")
        payloads = [f"{number:0100}".encode()[::-1] for number in range(9)]
        await queues.enqueue({user_id: [(1000 + number, payload) for number, payload in enumerate(payloads)]})

        async def slice_of(after: Place | None = None, since: int = 0) -> tuple[list[Entry], int, bool]:
            _epoch, entries, end, is_last = await queues.read(user_id, since=since, most_bytes=350, after=after)
            return entries, end, is_last

        def numbers(entries: list[Entry]) -> list[int]:
            return [payloads.index(entry.payload) for entry in entries]

        first, end, is_last = await slice_of()
        assert (numbers(first), is_last) == ([0, 1, 2], False)
        place = Place(first[-1].name, end)
        second, _, _ = await slice_of(place)
        assert numbers(second) == [3, 4, 5]
        await queues.remove(user_id, [first[0].name, second[0].name])
        assert numbers((await slice_of(place))[0]) == [4, 5, 6]
        await queues.remove(user_id, [first[2].name, b"unknown"])
        # The place itself has gone: from the oldest on, so that nothing is passed over.
        again, end, _ = await slice_of(place)
        assert numbers(again) == [1, 4, 5]
        rest, _, is_last = await slice_of(Place(again[-1].name, end))
        assert (numbers(rest), is_last) == ([6, 7, 8], True)
        assert numbers((await slice_of(since=1006))[0]) == [7, 8]
        assert (await slice_of(since=2000))[0] == []
