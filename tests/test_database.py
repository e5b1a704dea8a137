"""The circuit breaker of MongoDB: when it trips, when it does not, and what happens to calls meanwhile."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, BulkWriteError, OperationFailure, WaitQueueTimeoutError, WriteConcernError

from server.config.settings import Settings
from server.embedded import EmbeddedStores
from server.errors import Unavailable
from server.models import Member
from server.storage.mongo.database import Database
from server.storage.mongo.rooms import MEMBERS_PER_CALL, MemberStore
from tests.support.waiting import eventually

SHORT = 0.05
BACK = 60.0
ping = Database.ping


@asynccontextmanager
async def database_in(folder: Path) -> AsyncIterator[Database]:
    stores = EmbeddedStores()
    addresses = await stores.start(Settings(data_dir=str(folder)))
    database = Database(addresses.mongodb_uri, "madang")
    try:
        yield database
    finally:
        database.close()
        await stores.stop()


async def failing(error: Exception) -> None:
    raise error


async def find_one(database: Database, timeout: float = BACK) -> Any:
    return await database.run(database.collection("things").find_one, {}, timeout=timeout)


async def test_one_slow_call_shuts_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[bool] = []

    async def ping_patiently(self: Database) -> bool:
        probed.append(await ping(self, BACK))
        return probed[-1]

    async with database_in(tmp_path) as database:
        monkeypatch.setattr(Database, "ping", ping_patiently)
        for call, argument in ((asyncio.sleep, BACK), (failing, WaitQueueTimeoutError("all are taken"))):
            probed.clear()
            with pytest.raises(Unavailable):
                await database.run(call, argument, timeout=SHORT)  # type: ignore[arg-type]
            assert await find_one(database) is None

            async def is_probed() -> bool:
                return bool(probed)

            await eventually(is_probed, "the store was asked")
            assert database.is_available and probed == [True]


async def test_a_frozen_store_is_noticed_and_nothing_is_begun_until_it_is_back(tmp_path: Path) -> None:
    begun: list[bool] = []

    async def call() -> None:
        begun.append(True)

    async with database_in(tmp_path) as database:
        assert await find_one(database) is None
        mongodb = int((tmp_path / "run" / "mongodb").read_text())
        os.kill(mongodb, signal.SIGSTOP)
        try:
            with pytest.raises(Unavailable):
                await find_one(database, SHORT)

            async def is_noticed() -> bool:
                return not database.is_available

            await eventually(is_noticed, "the probe fails too")
            with pytest.raises(Unavailable):
                await database.run(call)
            assert begun == []
        finally:
            os.kill(mongodb, signal.SIGCONT)
        assert await database.wait_available(BACK)
        await database.run(call)
        assert begun == [True]


async def test_a_broken_way_closes_the_gate_until_a_probe_is_answered(tmp_path: Path) -> None:
    async with database_in(tmp_path) as database:
        with pytest.raises(Unavailable):
            await database.run(failing, AutoReconnect("connection reset"))
        assert not database.is_available
        assert await database.wait_available(BACK)


@pytest.mark.parametrize(
    "error",
    [
        BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64, "errmsg": "waiting for replication"}]}),
        BulkWriteError({"writeErrors": [{"code": 11000, "index": 0}], "writeConcernErrors": [{"code": 64}]}),
        WriteConcernError("Primary stepped down", 189),
    ],
    ids=["bulk", "bulk with a duplicate", "single"],
)
async def test_a_write_that_may_not_last_has_an_unknown_outcome(error: Exception) -> None:
    database = Database("mongodb://127.0.0.1:1/", "madang")
    with pytest.raises(Unavailable):
        await database.run(failing, error)
    assert database.is_available
    database.close()


async def test_other_failures_are_the_callers() -> None:
    database = Database("mongodb://127.0.0.1:1/", "madang")
    for error in (BulkWriteError({"writeErrors": [{"code": 11000}]}), OperationFailure("bad query", 2)):
        with pytest.raises(type(error)):
            await database.run(failing, error)
    database.close()


async def test_all_rooms_of_a_person_are_found(tmp_path: Path) -> None:
    count = 2 * MEMBERS_PER_CALL + 1
    async with database_in(tmp_path) as database:
        members = MemberStore(database)
        await members.prepare()
        for start in range(0, count, MEMBERS_PER_CALL):
            numbers = range(start, min(start + MEMBERS_PER_CALL, count))
            await members.create([Member(f"room {number}", "me", peer_id="you") for number in numbers])
        assert {member.room_id for member in await members.of_user("me")} == {f"room {n}" for n in range(count)}
        assert await members.of_user("you") == []


async def test_a_cursor_that_the_store_has_forgotten_is_an_outage_and_no_fault(tmp_path: Path) -> None:
    """As after a restart of the store in the middle of a long read."""
    async with database_in(tmp_path) as database:
        things = database.collection("things")
        await database.run(things.insert_many, [{"_id": number} for number in range(9)])
        cursor = things.find({}, batch_size=2)
        await anext(cursor)
        await database.run(things.database.command, "killCursors", "things", cursors=[cursor.cursor_id])
        with pytest.raises(Unavailable):
            await database.run(cursor.to_list, None)
        assert await database.run(things.count_documents, {}) == 9
