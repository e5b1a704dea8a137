"""Clients that do not read: unsent bytes are bounded for each user, also if nothing more is written."""

import asyncio
from typing import Any

from tests.conftest import StartServer
from tests.support.people import Town
from tests.support.raw_socket import RawSocket
from tests.support.waiting import eventually

SILENT = 4
LARGE = "한" * 10_000
MANY = 40
BURST = 300
# Far below the time after which a ping that is not answered ends a connection.
SOON = 20.0


async def test_what_waits_for_all_sockets_of_a_user_is_bounded(start_server: StartServer, town_at: Any) -> None:
    """Each of them may leave far more unread than is sent; together they may not."""
    bounds = {"socket.max_unsent": "256MiB", "server.max_unsent_per_user": "1MiB"}
    town: Town = town_at(start_server({**bounds, "socket.ping_interval": "60s", "socket.ping_timeout": "60s"}))
    sender, person, room_id = await town.pair()
    talks, reads = await sender.connect(), await person.connect()
    raws = [await town.raw_chat(person.access_token, receive_buffer=8192) for _ in range(SILENT)]

    def is_cut(raw: RawSocket) -> bool:
        return raw.writer.transport.is_closing() or raw.reader.at_eof() or raw.reader.exception() is not None

    async def pour() -> bool:
        for raw in raws:
            # Where the server has cut it, the kernel says so by a failing write.
            raw.writer.write(raw.encode("3"))
        calls = [talks.call("message:send", {"roomId": room_id, "content": LARGE}) for _ in range(MANY)]
        assert all(ack["ok"] for ack in await asyncio.gather(*calls))
        return all(map(is_cut, raws))

    await eventually(pour, "whoever reads nothing is cut", 4 * SOON)
    await reads.round_trip()
    assert not reads.is_gone and not talks.is_gone, "who reads stays"
    assert len(reads.heard("message:new")) % MANY == 0


async def test_whoever_stopped_reading_is_cut_without_another_write(start_server: StartServer, town_at: Any) -> None:
    bounds = {"socket.max_unsent": "1MiB", "messages.max_batch": 20}
    town: Town = town_at(start_server({**bounds, "socket.ping_interval": "60s", "socket.ping_timeout": "60s"}))
    sender, person, room_id = await town.pair()
    talks = await sender.connect()
    raw = await town.raw_chat(person.access_token, receive_buffer=8192)
    # More than the kernel takes, and less than 16 times the bound beyond that, which would be cut at once.
    calls = [talks.call("message:send", {"roomId": room_id, "content": LARGE}) for _ in range(BURST)]
    assert all(ack["ok"] for ack in await asyncio.gather(*calls))
    await talks.next("user:offline", timeout=SOON)
    await raw.close()
