"""Refreshes cut by `kill -9`: a client that retries with the old token stays logged in.

`REFRESH_CUTS=200 pytest tests/test_refresh_cuts.py` cuts so many; the suite contents itself with fewer.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tornado.httpclient import HTTPError

from tests.conftest import StartServer
from tests.support.people import Person, Town
from tests.support.rest import API
from tests.support.server_process import ServerProcess

CUTS = int(os.environ.get("REFRESH_CUTS", "12"))
PEOPLE = 8
REFRESH = f"{API}/auth/refresh"
SEED = 28


@asynccontextmanager
async def in_town(process: ServerProcess) -> AsyncIterator[Town]:
    town = Town(process.url)
    yield town
    await town.close()


async def is_cut(town: Town, person: Person, answered: asyncio.Semaphore) -> bool:
    """Refresh; whether the answer was lost."""
    try:
        answer = await town.rest.call("POST", REFRESH, {"refreshToken": person.refresh_token})
    except (HTTPError, OSError):
        return True
    assert answer.status == 200, answer
    person.refresh_token = answer.body["refreshToken"]
    answered.release()
    return False


@pytest.mark.gen_test(timeout=120 + 10 * CUTS)
async def test_a_refresh_that_is_cut_logs_nobody_out(start_server: StartServer) -> None:
    process = start_server({"auth.refresh_grace": "10m"})  # a slow machine may take its time to start again
    chance = random.Random(SEED)
    async with in_town(process) as town:
        people = await town.people(PEOPLE)
    cuts = 0
    while cuts < CUTS:
        async with in_town(process) as town:
            answered = asyncio.Semaphore(0)
            asking = [asyncio.create_task(is_cut(town, person, answered)) for person in people]
            for _ in range(chance.randrange(PEOPLE)):
                await answered.acquire()
            process.kill()
            lost = await asyncio.gather(*asking)
        cuts += sum(lost)
        process.restart()
        async with in_town(process) as town:
            again = [await town.rest.call("POST", REFRESH, {"refreshToken": one.refresh_token}) for one in people]
            assert [answer.status for answer in again] == [200] * PEOPLE, f"cut: {lost}"
            for person, answer in zip(people, again, strict=True):
                person.refresh_token = answer.body["refreshToken"]
