"""`/metrics`: who may read it, that it holds what is declared and nothing else, and that its numbers move."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from server.metrics import READ
from tests.conftest import StartServer
from tests.support.people import Person, Town
from tests.support.rest import MESSAGES
from tests.support.server_process import ServerProcess
from tests.support.shapes import check_problem
from tests.support.waiting import eventually

LARGE = "한" * 10_000
TOKEN = "a-token-that-only-prometheus-has"
COUNTERS = {"madang_refusals_total"}
COUNTED = COUNTERS | {
    "madang_operation_seconds",
    "madang_message_batch",
    "madang_message_write_seconds",
    "madang_store_seconds",
    "madang_loop_lag_seconds",
}
# Of Python and the process, by the library itself.
OTHERS = ("process_", "python_")


async def scrape(town: Town, token: str | None = None) -> dict[str, float]:
    """Each sample by its name and labels."""
    answer = await town.rest.call("GET", "/metrics", token=token)
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = answer.raw.decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


async def families(town: Town) -> set[str]:
    answer = await town.rest.call("GET", "/metrics")
    named = {str(name) for name in re.findall(r"^# TYPE (\S+) ", answer.raw.decode(), re.M)}
    return {name for name in named if not name.startswith(OTHERS) and not name.endswith("_created")}


async def test_it_holds_what_is_declared_and_nothing_else(town: Town) -> None:
    await town.pair()
    declared = {one.name + ("_total" if one.is_counter else "") for one in READ}
    assert await families(town) == declared | COUNTED


async def test_every_number_moves(town: Town) -> None:
    before = await scrape(town)
    one, other, room_id = await town.pair()
    device = await other.connect()
    polling = await one.connect(["polling"])
    for number in range(3):
        await one.send(room_id, f"{number}")
    assert (await device.call("message:send", {"roomId": room_id, "content": "by socket"}))["ok"]
    check_problem(await one.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": " "}), "VALIDATION_FAILED")
    check_problem(await one.get(f"{MESSAGES}/chats/{'0' * 32}"), "NOT_FOUND")
    after = await scrape(town)

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    def operations(name: str, outcome: str) -> float:
        return grown(f'madang_operation_seconds_count{{operation="{name}",outcome="{outcome}"}}')

    assert operations("messages.send", "OK") >= 4, "of both transports"
    assert operations("messages.send", "VALIDATION_FAILED") >= 1
    assert operations("rooms.get_line", "NOT_FOUND") >= 1
    assert grown("madang_message_batch_count") >= 2 and grown("madang_message_batch_sum") >= 4
    assert grown('madang_sockets{transport="websocket"}') >= 1 and grown('madang_sockets{transport="polling"}') >= 1
    assert grown("madang_users_online") >= 2
    assert grown("madang_rooms_cached") >= 1
    assert (
        grown('madang_store_calls_total{store="mongodb"}') >= 5 and grown('madang_store_calls_total{store="redis"}') > 0
    )
    assert after['madang_store_up{store="mongodb"}'] == after['madang_store_up{store="redis"}'] == 1
    assert after["madang_loop_lag_seconds_count"] > 0
    assert grown("madang_message_write_seconds_count") == grown("madang_message_batch_count")
    for store in ("mongodb", "redis"):
        assert grown(f'madang_store_seconds_count{{store="{store}"}}') > 0
    assert after['madang_consumer_lag{consumer="delivery"}'] >= 0
    await polling.close()


async def test_refusals_by_a_limit_are_counted(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"limits.enabled": True, "limits.messages": 1, "limits.messages_burst": 1}))
    one, _other, room_id = await town.pair()
    for number in range(4):
        await one.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": f"{number}"})
    counts = await scrape(town)
    refused = counts['madang_operation_seconds_count{operation="messages.send",outcome="RATE_LIMITED"}']
    assert counts['madang_refusals_total{limit="limits.messages"}'] == refused >= 1


@contextlib.contextmanager
def halted(server: ServerProcess, child: str) -> Iterator[None]:
    """An embedded store that does not answer."""
    process = int((server.data_dir / "run" / child).read_text())
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


async def becomes(town: Town, name: str, is_so: Callable[[float], bool]) -> None:
    async def look() -> bool:
        return is_so((await scrape(town))[name])

    await eventually(look, name)


@pytest.mark.embedded_stores
async def test_what_waits_is_told(start_server: StartServer, town_at: Any) -> None:
    """For a store, for a consumer of the log, and for somebody who does not read."""
    server = start_server()
    town: Town = town_at(server)
    one, other, room_id = await town.pair()
    waiting = ('madang_consumer_lag{consumer="delivery"}', "madang_rooms_in_flight", "madang_offline_waiting_bytes")
    with halted(server, "redis"):
        await one.send(room_id, "for somebody who is away, whose queue cannot be written")
        counts = await scrape(town)
        assert counts[waiting[0]] == 1 and all(counts[name] > 0 for name in waiting)
    for name in waiting[:1]:
        await becomes(town, name, lambda count: count == 0)
    with halted(server, "mongodb"):
        sends = [asyncio.ensure_future(send(one, room_id, f"{number}")) for number in range(3)]
        await becomes(town, "madang_messages_waiting", lambda count: count > 0)
        await becomes(town, 'madang_store_up{store="mongodb"}', lambda is_up: is_up == 0)
        await asyncio.gather(*sends)
        assert (await scrape(town))['madang_store_failures_total{store="mongodb"}'] > 0
    await becomes(town, 'madang_store_up{store="mongodb"}', lambda is_up: is_up == 1)
    await town.raw_chat(other.access_token, receive_buffer=8192)

    async def is_unsent() -> bool:
        await asyncio.gather(*(send(one, room_id, LARGE) for _ in range(20)))
        return (await scrape(town))["madang_unsent_bytes"] > 0

    await eventually(is_unsent, "bytes for somebody who does not read")


async def send(person: Person, room_id: str, content: str) -> None:
    await person.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": content})


async def test_who_comes_through_a_proxy_is_judged_by_their_own_address(
    start_server: StartServer, town_at: Any
) -> None:
    server = start_server({"server.trusted_proxies": ["127.0.0.1"]})
    town: Town = town_at(server)
    check_problem(await town.rest.call("GET", "/metrics", headers={"X-Forwarded-For": "203.0.113.7"}), "UNAUTHORIZED")
    assert await scrape(town)


async def test_others_need_the_token(start_server: StartServer, town_at: Any) -> None:
    town: Town = town_at(start_server({"metrics.allow": ["203.0.113.0/24"], "metrics.token": TOKEN}))
    for token in (None, "x" * 32, TOKEN[:-1]):
        check_problem(await town.rest.call("GET", "/metrics", token=token), "UNAUTHORIZED")
    assert await scrape(town, TOKEN)
