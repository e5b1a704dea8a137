"""What `server/engine_socket.py` takes for granted of python-engineio; a release that changes it fails here first."""

import asyncio
from typing import Any

import engineio
from engineio.async_socket import AsyncSocket
from engineio.packet import MESSAGE, NOOP, Packet

from server.engine_socket import PACKETS_PER_POLL, answer_poll, bound_polls, let_rest, take_queue, use_websockets

SID = "a session"


def engine_and_socket() -> tuple[Any, AsyncSocket]:
    engine = engineio.AsyncServer(async_mode="tornado", monitor_clients=False)
    engine.sockets[SID] = socket = AsyncSocket(engine, SID)
    return engine, socket


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
    let_rest(socket)
    before = asyncio.all_tasks()
    socket.schedule_ping()
    assert asyncio.all_tasks() == before


async def test_what_waits_is_taken_in_order_and_the_session_is_silent_from_then_on() -> None:
    engine, socket = engine_and_socket()
    ended = []
    engine.on("disconnect", lambda sid, _reason: ended.append(sid))
    bound_polls(socket)
    count = 2 * PACKETS_PER_POLL
    for number in range(count):
        await socket.send(Packet(MESSAGE, str(number)))
    polled = [packet.data for packet in await socket.poll()]
    assert len(polled) == PACKETS_PER_POLL
    await socket.send(Packet(MESSAGE, str(count)))
    answer_poll(socket)
    assert polled + [packet.data for packet in take_queue(socket)] == [str(number) for number in range(count + 1)]
    assert [packet.packet_type for packet in await socket.poll()] == [NOOP]
    await socket.close()
    assert ended == []
    assert (socket.upgraded, socket.upgrading) == (True, False)
