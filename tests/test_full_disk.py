"""A full disk: nothing acknowledged is lost, and the server recovers by itself."""

import asyncio
import resource
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.people import Town
from tests.support.rest import MESSAGES, Answer
from tests.support.server_process import ServerProcess
from tests.support.shapes import check_problem
from tests.support.waiting import eventually

AT_ONCE = 20
CONTENT = "x" * 9_000


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
@pytest.mark.embedded_stores
async def test_a_full_disk(start_server: StartServer, town_at: Callable[[ServerProcess], Town]) -> None:
    server = start_server()
    alice, _bob, room_id = await town_at(server).pair()
    acknowledged = [(await alice.send(room_id, "before"))["messageId"]]
    process_file = server.data_dir / "run" / "mongodb"
    broken = process_file.read_text()
    # Files that may not grow stand for a disk without room; the store that is started next has no such limit.
    resource.prlimit(int(broken), resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    async def send(content: str) -> Answer:
        answer = await alice.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": content})
        if answer.status == 201:
            acknowledged.append(answer.body["messageId"])
        else:
            check_problem(answer, "UNAVAILABLE")
        return answer

    async def store_is_another() -> bool:
        await asyncio.gather(*(send(CONTENT) for _ in range(AT_ONCE)))
        return process_file.read_text() not in ("", broken)

    async def sends_again() -> bool:
        return (await send("after")).status == 201

    await eventually(store_is_another, "the store that failed is restarted")
    await eventually(sends_again, "a message is taken after that")
    stored: list[dict[str, Any]] = []
    while page := (await alice.history(room_id, after=len(stored), limit=200))["messages"]:
        stored += page
    assert {message["messageId"] for message in stored} >= set(acknowledged)
    assert [message["seq"] for message in stored] == list(range(1, len(stored) + 1))
