"""What `handlers/socket/engine/polling.py` assumes of Engine.IO; a release that changes it fails here first."""

import asyncio
import time
from typing import Any

import engineio
from engineio.async_socket import AsyncSocket
from engineio.packet import MESSAGE, NOOP, PING, PONG, Packet

from handlers.socket.engine.polling import (
    PACKETS_PER_POLL,
    PolledSocket,
    answer_poll,
    detach_session,
    disable_pings,
    use_websockets,
)
from server.realtime.send_buffer import MOST_AT_ONCE

SID = "a session"
MAX_UNSENT = 1024


def engine_and_socket() -> tuple[Any, AsyncSocket]:
    engine = engineio.AsyncServer(async_mode="tornado", monitor_clients=False)
    engine.sockets[SID] = socket = AsyncSocket(engine, SID)
    return engine, socket


class Client:
    """Notes the times of pings whose pongs came, and the deliveries that were confirmed."""

    def __init__(self) -> None:
        self.pongs: list[float] = []
        self.last = self.confirmed = 0

    def note_ping(self) -> None:
        """Of no interest here."""

    def take_pong(self, sent_at: float) -> None:
        self.pongs.append(sent_at)

    def note_unsent(self, _reader: object, _size: int) -> None:
        """Of no interest here."""

    def delivered(self) -> int:
        return self.last

    def confirm(self, number: int) -> None:
        self.confirmed = number


def attach_link(socket: AsyncSocket) -> Client:
    """Bound the session as the server does."""
    client = Client()
    PolledSocket(socket, MAX_UNSENT, client).attach()
    return client


async def test_the_driver_of_one_server_is_replaced_and_gets_the_session() -> None:
    (engine, socket), (other, _) = engine_and_socket(), engine_and_socket()
    begun = []

    async def begin(engine_socket: Any, environ: dict[str, Any]) -> None:
        begun.append((engine_socket, environ))

    use_websockets(engine, begin)
    environ = {"HTTP_CONNECTION": "Upgrade", "HTTP_UPGRADE": "websocket"}
    assert await socket.handle_get_request(environ) is None
    assert begun == [(socket, environ)]
    assert other._async["websocket"] is not engine._async["websocket"]


async def test_a_session_that_rests_starts_no_ping() -> None:
    _engine, socket = engine_and_socket()
    disable_pings(socket)
    before = asyncio.all_tasks()
    socket.schedule_ping()
    assert asyncio.all_tasks() == before


async def test_what_waits_is_taken_in_order_and_the_session_is_silent_from_then_on() -> None:
    engine, socket = engine_and_socket()
    ended = []
    engine.on("disconnect", lambda sid, _reason: ended.append(sid))
    attach_link(socket)
    count = 2 * PACKETS_PER_POLL
    for number in range(count):
        await socket.send(Packet(MESSAGE, str(number)))
    polled = [packet.data for packet in await socket.poll()]
    assert len(polled) == PACKETS_PER_POLL
    await socket.send(Packet(MESSAGE, str(count)))
    answer_poll(socket)
    assert polled + [packet.data for packet in detach_session(socket)] == [str(number) for number in range(count + 1)]
    assert [packet.packet_type for packet in await socket.poll()] == [NOOP]
    await socket.close()
    assert ended == []
    assert (socket.upgraded, socket.upgrading) == (True, False)


async def test_pings_and_pongs_of_who_polls_go_by_the_monotonic_clock() -> None:
    engine, socket = engine_and_socket()
    engine.ping_interval = 0.0
    pongs, begun = attach_link(socket).pongs, time.monotonic()
    await socket.receive(Packet(PONG))
    assert [packet.packet_type for packet in await socket.poll()] == [PING]
    await socket.receive(Packet(PONG))
    assert len(pongs) == 2 and begun <= pongs[1] <= time.monotonic()
    socket.last_ping = time.monotonic() - engine.ping_timeout - 1
    assert not await socket.check_ping_timeout() and socket.closed


async def test_what_the_library_sends_by_itself_is_bounded_too() -> None:
    _engine, socket = engine_and_socket()
    attach_link(socket)
    count = 0
    while not socket.closing:
        await socket.send(Packet(MESSAGE, "x" * MAX_UNSENT))
        count += 1
        await asyncio.sleep(0)
        assert count <= MOST_AT_ONCE + 2


async def test_a_poll_confirms_what_the_one_before_was_answered_with() -> None:
    _engine, socket = engine_and_socket()
    client = attach_link(socket)
    for number in range(1, 2 * PACKETS_PER_POLL):
        await socket.send(Packet(MESSAGE, str(number)))
        client.last = number
    confirmed = []
    for _ in range(2):
        await socket.poll()
        confirmed.append(client.confirmed)
    client.last += 1
    await socket.send(Packet(MESSAGE, "one more"))
    await socket.poll()
    confirmed.append(client.confirmed)
    # The first answer held only a part of them.
    assert confirmed == [0, 0, 2 * PACKETS_PER_POLL - 1]


async def test_what_comes_as_a_client_ends_its_poll_waits_for_the_next_one() -> None:
    _engine, socket = engine_and_socket()
    client = Client()
    transport = PolledSocket(socket, MAX_UNSENT, client)
    transport.attach()
    ended = asyncio.get_running_loop().create_task(socket.poll())
    await asyncio.sleep(0)
    transport.lose_poll()
    await socket.send(Packet(MESSAGE, "in the same moment"))
    client.last = 1
    assert [packet.packet_type for packet in await ended] == [NOOP]
    assert "in the same moment" in [packet.data for packet in await socket.poll()]
    assert client.confirmed == 0
    await socket.send(Packet(MESSAGE, "one more"))
    await socket.poll()
    assert client.confirmed == 1
