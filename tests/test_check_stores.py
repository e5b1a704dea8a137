"""`main.py check --stores`: names what the stores lack, and leaves nothing in them."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pymongo
import redis

from tests.conftest import StartServer
from tests.support.own_stores import stores_in
from tests.support.plain_mongodb import plain_mongodb
from tests.support.redis_server import redis_server
from tests.support.server_process import ROOT

DEADLINE = 120.0
LINE = re.compile(r"(mongodb|redis): (.+?) +(ok|note|DIFFERS)(?: +(.*))?")


async def check(folder: Path, *sets: str) -> tuple[int, dict[str, str], str]:
    """The exit code, the grade of each thing, and all that was said."""
    command = [sys.executable, str(ROOT / "main.py"), "check", "--stores", "--set", f"data_dir={folder}"]
    for each in sets:
        command += ["--set", each]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=DEADLINE)
    grades = {}
    for line in done.stdout.splitlines()[1:]:
        found = LINE.fullmatch(line)
        assert found, done.stdout
        grades[f"{found[1]}: {found[2]}"] = found[3]
    return done.returncode, grades, done.stdout + done.stderr


async def test_the_embedded_stores_do_all_that_is_needed(tmp_path: Path) -> None:
    code, grades, said = await check(tmp_path)
    assert code == 0, said
    assert set(grades.values()) <= {"ok", "note"}
    assert len(grades) >= 19
    assert "ordered inserts stop at the first failure" in said


async def test_named_stores_are_left_as_they_were(tmp_path: Path) -> None:
    async with stores_in(tmp_path / "elsewhere") as addresses:
        stores = [f"mongodb.uri={addresses.mongodb_uri}", f"redis.url={addresses.redis_url}"]
        code, grades, said = await check(tmp_path / "data", *stores)
        assert (code, grades["mongodb: unique keys"], grades["redis: Lua"]) == (0, "ok", "ok"), said
        with pymongo.MongoClient[dict[str, object]](addresses.mongodb_uri) as client:
            assert client["madang"].list_collection_names() == []
        with redis.Redis.from_url(addresses.redis_url) as client:
            assert client.keys("*") == []


async def test_a_database_that_does_not_confirm_differs(tmp_path: Path) -> None:
    with plain_mongodb(tmp_path, "--enable-test-commands") as uri:
        with pymongo.MongoClient[dict[str, object]](uri) as client:
            unconfirmed = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}
            data = {"failCommands": ["insert"], "writeConcernError": unconfirmed}
            client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
        code, grades, said = await check(tmp_path / "data", f"mongodb.uri={uri}")
        assert (code, grades["mongodb: journaled writes by a majority"]) == (1, "DIFFERS"), said
        assert grades["mongodb: clock"] == "ok", "the rest is asked all the same"
        assert "Traceback" not in said


async def test_stores_that_do_not_answer_are_named_once_each(tmp_path: Path) -> None:
    nobody = ["mongodb.uri=mongodb://127.0.0.1:1/", "redis.url=redis://127.0.0.1:1/0"]
    code, grades, said = await check(tmp_path, *nobody)
    assert (code, grades) == (1, {"mongodb: answers": "DIFFERS", "redis: answers": "DIFFERS"}), said
    assert "Traceback" not in said


async def test_a_redis_that_may_drop_queues_is_named_by_the_check_and_by_the_start(
    tmp_path: Path, start_server: StartServer
) -> None:
    with redis_server(tmp_path, "--maxmemory-policy", "allkeys-lru") as url:
        code, grades, said = await check(tmp_path / "data", f"redis.url={url}")
        assert code == 0, said
        assert grades["redis: evicts nothing"] == "note"
        assert "allkeys-lru" in said
        server = await asyncio.to_thread(start_server, {"redis.url": url})
        assert "offline queues may be evicted store=redis: maxmemory-policy is not noeviction" in server.log()
        await asyncio.to_thread(server.stop)
