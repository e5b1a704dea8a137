"""The embedded stores: private, restarted when they die, ended with their server, one server for each folder."""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pymongo
import pytest
import redis
from pymongo.errors import OperationFailure, PyMongoError

from server.config.settings import MongoDB, Redis, Settings
from server.embedded import Addresses, EmbeddedStores, StartFailed, mongodb
from server.embedded import redis as embedded_redis
from tests.support.own_stores import stores_in

DEADLINE = 60.0
LINUX = sys.platform == "linux"
NAMES = ("mongodb", "redis")


@contextmanager
def process_with_stores(folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Addresses]]:
    """The stores under a process of their own, as under a real server."""
    command = [sys.executable, "-m", "tests.support.stores_process", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process, Addresses(*json.loads(process.stdout.readline()))
        finally:
            process.kill()


@contextmanager
def mongodb_at(uri: str) -> Iterator["pymongo.collection.Collection[dict[str, object]]"]:
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(uri, serverSelectionTimeoutMS=2000)
    try:
        yield client.madang.things
    finally:
        client.close()


@contextmanager
def redis_at(url: str) -> Iterator["redis.Redis"]:
    client = redis.Redis.from_url(url, socket_timeout=5)
    try:
        yield client
    finally:
        client.close()


def pid_of(name: str, folder: Path) -> int:
    """While a child lives, its lock file holds its process id."""
    return int((folder / "run" / name).read_text() or 0)  # empty for the moment in which it is written


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.02)


def answers(uri: str, url: str) -> bool:
    try:
        with mongodb_at(uri) as things, redis_at(url) as client:
            things.find_one({})
            return bool(client.ping())
    except (PyMongoError, redis.RedisError, OSError):
        return False


async def test_both_answer_and_keep_their_data(tmp_path: Path) -> None:
    async with stores_in(tmp_path) as first:
        with mongodb_at(first.mongodb_uri) as things, redis_at(first.redis_url) as client:
            things.insert_one({"_id": 1})
            client.set("key", "value")
    assert not any(is_alive(pid_of(name, tmp_path)) for name in NAMES)
    async with stores_in(tmp_path) as second:
        with mongodb_at(second.mongodb_uri) as things, redis_at(second.redis_url) as client:
            assert things.find_one({}) == {"_id": 1}
            assert client.get("key") == b"value"


async def test_the_store_is_set_to_lose_nothing(tmp_path: Path) -> None:
    async with stores_in(tmp_path) as addresses:
        with redis_at(addresses.redis_url) as client:
            wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "port": "0"}
            assert {key: client.config_get(key)[key] for key in wanted} == wanted
        if LINUX:
            command = Path(f"/proc/{pid_of('mongodb', tmp_path)}/cmdline").read_text().split("\0")
            assert "--sync-on-commit" in command
            assert command[command.index("--host") + 1] == "127.0.0.1"


async def test_nobody_enters_without_the_password(tmp_path: Path) -> None:
    async with stores_in(tmp_path) as addresses:
        password = (tmp_path / "mongodb_password").read_text().strip()
        without = addresses.mongodb_uri.replace(f"madang:{password}@", "")
        with mongodb_at(without) as things, pytest.raises(OperationFailure):
            things.find_one({})
        with mongodb_at(addresses.mongodb_uri.replace(password, "x" * 43)) as things, pytest.raises(OperationFailure):
            things.find_one({})
        with redis_at(addresses.redis_url.partition("?")[0]) as client, pytest.raises(redis.AuthenticationError):
            client.get("key")


async def test_other_users_of_the_machine_see_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "made"
    monkeypatch.setenv("MADANG_AUTH__SECRET", "s" * 32)
    mask = os.umask(0o022)
    try:
        async with stores_in(folder):
            assert folder.stat().st_mode & 0o777 == 0o700
            for path in folder.iterdir():
                assert path.stat().st_mode & 0o077 == 0, path
            assert (folder / "redis" / "redis.sock").stat().st_mode & 0o077 == 0
            if LINUX:
                secrets = [(folder / f"{name}_password").read_bytes().strip() for name in NAMES]
                for name in NAMES:
                    process = Path(f"/proc/{pid_of(name, folder)}")
                    shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
                    assert not any(secret in shown for secret in secrets)
                    assert b"MADANG_" not in shown
    finally:
        os.umask(mask)


@pytest.mark.skipif(not LINUX, reason="limits of another process are Linux's")
async def test_a_store_whose_disk_failed_is_restarted(tmp_path: Path) -> None:
    """After a failed write SecantusDB answers pings and fails everything else, for as long as it lives."""
    async with stores_in(tmp_path) as addresses:
        with mongodb_at(addresses.mongodb_uri) as things:
            journaled = things.with_options(write_concern=pymongo.WriteConcern(j=True))
            journaled.insert_one({"_id": "kept"})
            broken = pid_of("mongodb", tmp_path)
            resource.prlimit(broken, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            with pytest.raises(OperationFailure):
                journaled.insert_one({"_id": "lost", "content": "x" * 100_000})
            assert things.database.command("ping")["ok"] == 1
        await until(lambda: pid_of("mongodb", tmp_path) not in (0, broken))
        await until(lambda: answers(addresses.mongodb_uri, addresses.redis_url))
        with mongodb_at(addresses.mongodb_uri) as things:
            assert [document["_id"] for document in things.find()] == ["kept"]


@pytest.mark.parametrize("killed", NAMES)
async def test_a_killed_child_comes_back_at_the_same_address(killed: str, tmp_path: Path) -> None:
    async with stores_in(tmp_path) as addresses:
        with mongodb_at(addresses.mongodb_uri) as things, redis_at(addresses.redis_url) as client:
            things.with_options(write_concern=pymongo.WriteConcern(j=True)).insert_one({"_id": 1})
            client.set("key", "value")
            for _ in range(2):
                before = pid_of(killed, tmp_path)
                os.kill(before, signal.SIGKILL)
                await until(lambda before=before: pid_of(killed, tmp_path) != before)
                await until(lambda: answers(addresses.mongodb_uri, addresses.redis_url))
            assert things.find_one({}) == {"_id": 1}
            assert client.get("key") == b"value"


async def test_a_second_server_on_a_folder_is_refused(tmp_path: Path) -> None:
    with process_with_stores(tmp_path) as (_, addresses):
        with pytest.raises(StartFailed, match="in use by another server") as caught:
            await EmbeddedStores().start(Settings(data_dir=str(tmp_path)))
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert answers(addresses.mongodb_uri, addresses.redis_url)


@pytest.mark.skipif(not LINUX, reason="other systems cannot end children with their parent")
async def test_children_end_with_a_killed_server(tmp_path: Path) -> None:
    with process_with_stores(tmp_path) as (process, _):
        pids = [pid_of(name, tmp_path) for name in NAMES]
        assert all(is_alive(pid) for pid in pids)
        process.kill()
        await until(lambda: not any(is_alive(pid) for pid in pids))


async def test_no_orphan_survives_the_next_start(tmp_path: Path) -> None:
    """Stopped children do not notice the end of their server, as on systems that do not tell them."""
    with process_with_stores(tmp_path) as (process, addresses):
        with mongodb_at(addresses.mongodb_uri) as things:
            things.with_options(write_concern=pymongo.WriteConcern(j=True)).insert_one({"_id": 1})
        orphans = [pid_of(name, tmp_path) for name in NAMES]
        for pid in orphans:
            os.kill(pid, signal.SIGSTOP)
        process.kill()
        process.wait()
        assert all(is_alive(pid) for pid in orphans)
        async with stores_in(tmp_path) as addresses_after:
            assert not any(is_alive(pid) for pid in orphans)
            with mongodb_at(addresses_after.mongodb_uri) as things:
                assert things.find_one({}) == {"_id": 1}


async def test_a_process_that_only_has_an_old_id_is_left_alone(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        (tmp_path / "run").mkdir()
        for name in NAMES:
            (tmp_path / "run" / name).write_text(str(bystander.pid))
        async with stores_in(tmp_path):
            assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


async def test_a_folder_too_deep_for_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("마당 'x\" " * 6) / ("d" * 100)
    temporary = Path(tempfile.mkdtemp(prefix="t"))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    try:
        async with stores_in(folder) as addresses:
            assert answers(addresses.mongodb_uri, addresses.redis_url)
            (private,) = temporary.iterdir()
            assert private.stat().st_mode & 0o077 == 0
        assert not list(temporary.iterdir())
    finally:
        temporary.rmdir()


async def test_addresses_of_other_servers_are_used_as_they_are(tmp_path: Path) -> None:
    elsewhere = Settings(
        data_dir=str(tmp_path / "data"), mongodb=MongoDB(uri="mongodb://db.example"), redis=Redis(url="redis://r:1/0")
    )
    first, second = EmbeddedStores(), EmbeddedStores()
    try:
        assert await first.start(elsewhere) == Addresses("mongodb://db.example", "redis://r:1/0")
        assert await second.start(elsewhere) == await EmbeddedStores().start(elsewhere)
        assert [path.name for path in (tmp_path / "data").iterdir()] == ["lock"]
        with pytest.raises(StartFailed, match="in use"):
            await EmbeddedStores().start(Settings(data_dir=str(tmp_path / "data")))
    finally:
        await asyncio.gather(first.stop(), second.stop())


@pytest.mark.parametrize(
    ("uri", "url", "said"),
    [
        ("mongodb://a:b:c@d", "embedded", "mongodb.uri is no address"),
        ("mongodb://host:port", "embedded", "mongodb.uri is no address"),
        ("embedded", "redis://host:port", "redis.url is no address"),
        ("embedded", "redis://host/0?socket_timeout=x", "redis.url is no address"),
    ],
)
async def test_an_address_that_is_none_is_refused(uri: str, url: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=said):
        await EmbeddedStores().start(Settings(data_dir=str(tmp_path), mongodb=MongoDB(uri=uri), redis=Redis(url=url)))


async def test_a_store_that_cannot_start_says_where_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_redis, "OPTIONS", embedded_redis.OPTIONS + "no-such-option yes\n")
    with pytest.raises(StartFailed, match=r"redis ended at its start \(exit code 1\); see .*redis\.log") as caught:
        await EmbeddedStores().start(Settings(data_dir=str(tmp_path)))
    assert "\n" not in str(caught.value)
    assert not is_alive(pid_of("redis", tmp_path))
    monkeypatch.undo()
    async with stores_in(tmp_path) as addresses:
        assert answers(addresses.mongodb_uri, addresses.redis_url)


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartFailed, match="file"):
        await EmbeddedStores().start(Settings(data_dir=str(tmp_path / "file")))


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    stores = EmbeddedStores()
    starting = asyncio.create_task(stores.start(Settings(data_dir=str(tmp_path))))
    await until(lambda: (tmp_path / "run" / "redis").exists() and bool((tmp_path / "run" / "redis").read_text()))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not is_alive(pid_of("redis", tmp_path))
    async with stores_in(tmp_path) as addresses:
        assert answers(addresses.mongodb_uri, addresses.redis_url)


async def test_a_port_that_a_connection_holds_is_given_up_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers nobody, and yet nobody else can listen there."""
    free = mongodb._free_port()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        ports = [held.getsockname()[1], free]
        monkeypatch.setattr(mongodb, "_free_port", lambda: ports.pop(0))
        stores = EmbeddedStores()
        try:
            address = await stores.start_mongodb(Settings(data_dir=str(tmp_path / "data")))
        finally:
            await stores.stop()
    assert f":{free}/" in address and ports == []
