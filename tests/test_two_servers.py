"""Two servers on one database log an error; a server that is killed and started again does not."""

import asyncio
from pathlib import Path
from typing import Any

import pymongo
import pytest

from tests.conftest import StartServer
from tests.support.own_stores import stores_in
from tests.support.waiting import eventually

TOLD = "another server runs on this database"
LOOKS = 4


def times(uri: str) -> dict[str, Any]:
    """When each server last said that it lives."""
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        return {document["_id"]: document["at"] for document in client["madang"]["servers"].find()}


@pytest.mark.embedded_stores
async def test_a_second_server_is_told_to_the_log(tmp_path: Path, start_server: StartServer) -> None:
    async with stores_in(tmp_path) as addresses:
        settings = {
            "mongodb.uri": addresses.mongodb_uri,
            "redis.url": addresses.redis_url,
            "sweep.interval": "100ms",
        }
        first = await asyncio.to_thread(start_server, settings)
        first.kill()
        await asyncio.to_thread(first.restart)
        heard: set[Any] = set()

        async def has_looked_again_and_again() -> bool:
            heard.update((await asyncio.to_thread(times, addresses.mongodb_uri)).values())
            return len(heard) > LOOKS

        await eventually(has_looked_again_and_again, "the server looks around")
        assert TOLD not in first.log(), "the one that was killed does not count"
        second = await asyncio.to_thread(start_server, settings)

        async def both_are_told() -> bool:
            return TOLD in first.log() and TOLD in second.log()

        await eventually(both_are_told, "both are told")
        await asyncio.to_thread(second.stop)
        assert (first.log().count(TOLD), second.log().count(TOLD)) == (1, 1)
        await asyncio.to_thread(first.stop)
