"""`main.py move`: copies an embedded database to another one, completely and once; it may be repeated."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pymongo
import pytest
from pymongo.errors import PyMongoError

from tests.conftest import StartServer
from tests.support.people import Town
from tests.support.plain_mongodb import plain_mongodb
from tests.support.server_process import ROOT, ServerProcess
from tests.support.waiting import DEADLINE

MOVE_DEADLINE = 120.0
MESSAGES = 620  # more than one batch


class Target(NamedTuple):
    uri: str
    database: "pymongo.database.Database[dict[str, Any]]"


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    """A store of its own that stands in for a real MongoDB."""
    with plain_mongodb(tmp_path, "--standalone") as uri:
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri, retryWrites=False)
        try:
            yield Target(uri, client.get_database("madang"))
        finally:
            client.close()


def move(process: ServerProcess, uri: str, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "main.py"), "migrate", "--set", f"data_dir={process.data_dir}", "--to", uri]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=MOVE_DEADLINE)


def wait_until_it_answers(target: Target) -> None:
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            target.database.command("ping")
            return
        except PyMongoError:
            assert time.monotonic() < deadline


@pytest.mark.embedded_stores
async def test_everything_is_there_after_a_move(
    start_server: StartServer, town_at: Callable[[ServerProcess], Town], target: Target
) -> None:
    process = start_server()
    town = town_at(process)
    alice, bob, room_id = await town.pair()
    for number in range(MESSAGES):
        await alice.send(room_id, f"message {number} 안녕 🌻", clientMessageId=f"c{number}")
    last = (await bob.history(room_id, limit=1))["messages"][0]
    answer = await bob.post(f"/api/v1/messages/chats/{room_id}/read", {"messageId": last["messageId"]})
    assert answer.status == 200
    before = await alice.room(room_id), await alice.history(room_id, limit=200), await bob.history(room_id, after=300)
    process.stop()
    wait_until_it_answers(target)
    done = move(process, target.uri)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"messages: {MESSAGES} of {MESSAGES} documents" in done.stdout
    assert re.search(rf"mongodb:\n  uri: {re.escape(target.uri)}\n  database: madang\n", done.stdout)
    assert "differ" not in done.stdout

    again = move(process, target.uri)
    assert again.returncode == 1
    assert "has been moved there already" in again.stderr

    process.settings["mongodb.uri"] = target.uri
    process.start()
    moved = town_at(process)
    alice, bob = moved.resident(alice), moved.resident(bob)
    after = await alice.room(room_id), await alice.history(room_id, limit=200), await bob.history(room_id, after=300)
    assert after == before
    repeated = await alice.send(room_id, "message 7 안녕 🌻", clientMessageId="c7")
    assert repeated["seq"] == 8
    assert (await alice.send(room_id, "the next"))["seq"] == MESSAGES + 1
    assert (await bob.get("/api/v1/users/search", q=alice.user["firstName"])).body["total"] >= 1
    answer = await moved.rest.call("POST", "/api/v1/auth/refresh", {"refreshToken": alice.refresh_token})
    assert answer.status == 200


@pytest.mark.embedded_stores
async def test_a_move_that_was_broken_off_goes_on(
    start_server: StartServer, town_at: Callable[[ServerProcess], Town], target: Target
) -> None:
    """What an earlier try left is kept where it is right and put right where it is not."""
    process = start_server()
    alice, _bob, room_id = await town_at(process).pair()
    await alice.send(room_id, "kept")
    process.stop()
    wait_until_it_answers(target)
    assert move(process, target.uri).returncode == 0
    # As an earlier try would be found that did not come to its end, before the source went on.
    target.database.moved_from.update_many({}, {"$unset": {"movedAt": ""}})
    target.database.rooms.update_many({}, {"$set": {"lastSeq": 999}})
    target.database.members.delete_many({})
    target.database.messages.insert_one({"_id": "gone", "roomId": "gone", "seq": 1})
    done = move(process, target.uri)
    assert (done.returncode, done.stderr) == (0, "")
    assert [document["content"] for document in target.database.messages.find()] == ["kept"]
    assert target.database.members.count_documents({}) == 2
    assert target.database.rooms.count_documents({"lastSeq": 999}) == 0


@pytest.mark.embedded_stores
async def test_a_database_with_something_else_in_it_is_refused(start_server: StartServer, target: Target) -> None:
    process = start_server()
    process.stop()
    wait_until_it_answers(target)
    target.database.cats.insert_one({"_id": "Tom"})
    done = move(process, target.uri)
    assert done.returncode == 1
    assert "not empty" in done.stderr
    assert target.database.list_collection_names() == ["cats"]
    done = move(process, target.uri, "--database", "elsewhere")
    assert (done.returncode, done.stderr) == (0, "")
    assert "database: elsewhere" in done.stdout


@pytest.mark.embedded_stores
async def test_a_running_server_is_not_moved(start_server: StartServer, target: Target) -> None:
    process = start_server()
    wait_until_it_answers(target)
    done = move(process, target.uri)
    assert done.returncode == 1
    assert "in use by another server" in done.stderr
    assert target.database.list_collection_names() == []


@pytest.mark.embedded_stores
@pytest.mark.parametrize("place", ["mongodb.database=misspelt", "data_dir=FOLDER/misspelt"])
async def test_a_move_from_the_wrong_place_leaves_the_target_to_the_right_one(
    start_server: StartServer, target: Target, tmp_path: Path, place: str
) -> None:
    process = start_server()
    process.stop()
    wait_until_it_answers(target)
    wrong = move(process, target.uri, "--database", "madang", "--set", place.replace("FOLDER", str(tmp_path)))
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "Traceback" not in wrong.stderr
    if place.startswith("data_dir"):
        assert wrong.stderr == f"not moved: there is no embedded database in {tmp_path}/misspelt\n"
    else:
        assert f"{process.data_dir} has no collections of the database misspelt" in wrong.stderr
    assert target.database.list_collection_names() == []
    assert not (tmp_path / "misspelt").exists()
    assert move(process, target.uri).returncode == 0


def test_what_cannot_be_moved_is_said(tmp_path: Path) -> None:
    (tmp_path / "mongodb").mkdir()
    (tmp_path / "mongodb" / "anything").touch()

    def refused(*options: str) -> str:
        command = [sys.executable, str(ROOT / "main.py"), "move", "--set", f"data_dir={tmp_path}", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOVE_DEADLINE)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "mongodb.uri is no address" in refused("--to", "mongodb://[")
    assert "does not answer" in refused("--to", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=500")
    assert "mongodump" in refused("--to", "mongodb://127.0.0.1:1", "--set", "mongodb.uri=mongodb://127.0.0.1:2")
