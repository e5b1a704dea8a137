"""Files of the stores that are damaged, missing or of another kind: repaired if nothing is lost, else named."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis as redis_driver

from server.config.settings import MongoDB, Redis, Settings
from server.embedded import EmbeddedStores, StartFailed
from server.embedded import redis as embedded_redis
from tests.support.own_stores import stores_in
from tests.test_embedded import pid_of, redis_at, until
from tests.test_start_failures import refused

ELSEWHERE = "mongodb://db.example"
NOISE = bytes(range(256)) * 16
AOF = Path("redis/appendonlydir")
Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which both stores have run and kept something."""
    folder = tmp_path_factory.mktemp("whole") / "data"

    async def fill() -> None:
        async with stores_in(folder) as addresses:
            with redis_at(addresses.redis_url) as client:
                client.rpush("list", *(f"entry {number}" for number in range(200)))

    # In a thread of its own: the loop of the test that comes first is there already.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, fill()).result()
    return folder


@pytest.fixture
def data(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "data"))


def redis_alone(data: Path) -> Settings:
    return Settings(data_dir=str(data), mongodb=MongoDB(uri=ELSEWHERE))


def mongodb_alone(data: Path) -> Settings:
    return Settings(data_dir=str(data), redis=Redis(url="redis://cache.example:6379/0"))


def keys_at(url: str) -> list[bytes] | None:
    """None where nobody answers."""
    try:
        with redis_at(url) as client:
            return list(client.keys())
    except (redis_driver.RedisError, OSError):
        return None


def set_aside(data: Path) -> list[Path]:
    return sorted(data.glob("redis.damaged-*"))


DAMAGES: dict[str, Damage] = {
    "an empty manifest": lambda data: (data / AOF / "appendonly.aof.manifest").write_bytes(b""),
    "no log": lambda data: (data / AOF / "appendonly.aof.1.incr.aof").unlink(),
    "a garbled base": lambda data: (data / AOF / "appendonly.aof.1.base.rdb").write_bytes(NOISE),
    "a garbled log": lambda data: (data / AOF / "appendonly.aof.1.incr.aof").write_bytes(NOISE),
    "a file for a folder": lambda data: (shutil.rmtree(data / AOF), (data / AOF).touch()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
async def test_a_damaged_redis_is_set_aside_at_the_start(
    damage: Damage, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(data)
    stores = EmbeddedStores()
    try:
        addresses = await stores.start(redis_alone(data))
        assert keys_at(addresses.redis_url) == []
    finally:
        await stores.stop()
    [aside] = set_aside(data)
    assert (aside / "appendonlydir").exists()
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert str(data / "redis") in line and aside.name in line


async def test_a_redis_that_dies_on_a_damaged_file_comes_back_empty(data: Path) -> None:
    stores = EmbeddedStores()
    try:
        addresses = await stores.start(redis_alone(data))
        assert keys_at(addresses.redis_url) == [b"list"]
        (data / AOF / "appendonly.aof.manifest").write_bytes(b"")
        os.kill(pid_of("redis", data), signal.SIGKILL)
        await until(lambda: keys_at(addresses.redis_url) == [])
        assert len(set_aside(data)) == 1
        # As somebody does who wants to begin anew.
        shutil.rmtree(data / "redis")
        await until(lambda: (data / "redis" / "appendonlydir").is_dir() and keys_at(addresses.redis_url) == [])
        assert len(set_aside(data)) == 1
    finally:
        await stores.stop()


async def test_a_redis_that_cannot_start_at_all_keeps_its_folder(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_redis, "OPTIONS", embedded_redis.OPTIONS + "no-such-option yes\n")
    with pytest.raises(StartFailed, match="redis ended at its start"):
        await EmbeddedStores().start(redis_alone(data))
    monkeypatch.undo()
    assert set_aside(data) == []
    stores = EmbeddedStores()
    try:
        assert keys_at((await stores.start(redis_alone(data))).redis_url) == [b"list"]
    finally:
        await stores.stop()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "WiredTiger.turtle").unlink(), "has no WiredTiger.turtle"),
        (lambda folder: (folder / "WiredTiger.wt").unlink(), "has no WiredTiger.wt"),
        (lambda folder: (folder / "WiredTiger.turtle").write_bytes(NOISE), "mongodb ended at its start"),
        (lambda folder: (folder / "secantus_users.wt").write_bytes(NOISE), "mongodb "),
    ],
    ids=["turtle gone", "catalogue gone", "garbled turtle", "garbled users"],
)
async def test_a_database_that_cannot_be_opened_is_named_and_left_alone(damage: Damage, said: str, data: Path) -> None:
    folder = data / "mongodb"
    damage(folder)
    with pytest.raises(StartFailed) as caught:
        await EmbeddedStores().start(mongodb_alone(data))
    text = str(caught.value)
    assert said in text
    assert f"restore data_dir from a backup, or move {folder} away to begin with an empty database" in text
    assert "\n" not in text
    assert not list(folder.glob("*.wt.1")), "nothing was begun anew over what was there"


@pytest.mark.parametrize("name", ["mongodb", "redis", "log", "run"])
async def test_a_file_where_a_folder_belongs_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(StartFailed, match=f"^{tmp_path / name} is a file where a folder belongs: move it away"):
        await EmbeddedStores().start(Settings(data_dir=str(tmp_path)))


@pytest.mark.parametrize("name", ["mongodb_password", "redis_password"])
async def test_a_folder_where_a_file_belongs_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(StartFailed, match=f"^{tmp_path / name} is a folder where a file belongs: move it away"):
        await EmbeddedStores().start(Settings(data_dir=str(tmp_path)))


@pytest.mark.parametrize("name", ["uploads", "unsettled_rooms"])
async def test_what_the_server_itself_keeps_is_named_too(name: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "unsettled_rooms").mkdir() if name == "unsettled_rooms" else (data / "uploads").touch()
    kinds = "a folder where a file" if name == "unsettled_rooms" else "a file where a folder"
    assert await refused(data) == f"cannot start: {data / name} is {kinds} belongs: move it away and start again\n"
