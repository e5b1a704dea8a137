"""A start that cannot succeed ends with exit code 1 and one line that says why; one without Redis succeeds."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.conftest import StartServer
from tests.support.own_stores import stores_in
from tests.support.server_process import ROOT, ServerProcess
from tests.support.waiting import eventually

DEADLINE = 60.0


async def refused(folder: Path, *sets: str) -> str:
    """What a server says that does not start."""
    command = [str(ROOT / "main.py"), "--set", "server.port=0", "--set", f"data_dir={folder}"]
    for each in sets:
        command += ["--set", each]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        said, wrong = await asyncio.wait_for(process.communicate(), DEADLINE)
    finally:
        if process.returncode is None:
            process.kill()
    assert (process.returncode, said) == (1, b"")
    return wrong.decode()


async def test_a_wrong_password_of_mongodb(tmp_path: Path) -> None:
    async with stores_in(tmp_path / "elsewhere") as addresses:
        password = (tmp_path / "elsewhere" / "mongodb_password").read_text().strip()
        uri = addresses.mongodb_uri.replace(password, "wrong")
        assert uri != addresses.mongodb_uri
        said = await refused(tmp_path / "data", f"mongodb.uri={uri}", f"redis.url={addresses.redis_url}")
    assert said.startswith("cannot start: MongoDB refuses: ")
    assert len(said.splitlines()) == 1
    assert "wrong" not in said


async def test_a_file_that_holds_no_secret(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    file = tmp_path / "data" / "jwt_secret"
    file.write_text("short\n")
    said = await refused(tmp_path / "data")
    assert said.startswith(f"cannot start: {file} holds no secret of at least 32 characters")
    assert len(said.splitlines()) == 1


async def test_a_wrong_password_of_redis(tmp_path: Path, start_server: StartServer, town_at: Any) -> None:
    """Nothing that was promised needs Redis: the server starts, says what is missing, and takes messages."""
    async with stores_in(tmp_path / "elsewhere") as addresses:
        password = (tmp_path / "elsewhere" / "redis_password").read_text().strip()
        url = addresses.redis_url.replace(password, "wrong")
        assert url != addresses.redis_url
        server = await asyncio.to_thread(start_server, {"redis.url": url})
        town = town_at(server)
        ready = await town.rest.call("GET", "/readyz")
        assert (ready.status, ready.body["missing"]) == (503, ["redis"])
        assert (await town.rest.call("HEAD", "/readyz")).status == 503
        one, _other, room_id = await town.pair()
        assert (await one.send(room_id))["seq"] == 1
    assert "store unavailable store=redis" in server.log()
    assert "Traceback" not in server.log()


@asynccontextmanager
async def missing_its_database(folder: Path) -> AsyncIterator[tuple[ServerProcess, "asyncio.Future[None]", int]]:
    """A server whose start waits for its database, which is halted; with that start, and the halted process."""
    async with stores_in(folder / "elsewhere") as addresses:
        database = int((folder / "elsewhere" / "run" / "mongodb").read_text())
        settings = {"mongodb.uri": addresses.mongodb_uri, "redis.url": addresses.redis_url}
        server = ServerProcess(folder / "server", settings)
        os.kill(database, signal.SIGSTOP)
        try:
            starting = asyncio.ensure_future(asyncio.to_thread(server.start))

            async def is_missed() -> bool:
                return "store unavailable store=mongodb" in server.log()

            await eventually(is_missed, "the server misses its database")
            yield server, starting, database
        finally:
            os.kill(database, signal.SIGCONT)
            server.kill()


async def test_a_database_that_is_late_is_waited_for(tmp_path: Path) -> None:
    async with missing_its_database(tmp_path) as (server, starting, database):
        os.kill(database, signal.SIGCONT)
        await starting
        await asyncio.to_thread(server.stop)


async def test_a_signal_ends_a_server_that_waits_for_its_database(tmp_path: Path) -> None:
    async with missing_its_database(tmp_path) as (server, starting, _database):
        await asyncio.to_thread(server.stop)
        assert "cannot start" not in server.log()
        await asyncio.gather(starting, return_exceptions=True)
