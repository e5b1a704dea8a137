"""`main.py epoch`: a restored database gets another epoch, so that clients drop the numbers they hold."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.server_process import ROOT, ServerProcess
from tests.support.shapes import check_refused

DEADLINE = 60.0


def epoch(*options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "main.py"), "epoch", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)


def of(server: ServerProcess) -> list[str]:
    return ["--set", f"data_dir={server.data_dir}"]


@pytest.mark.embedded_stores
async def test_a_restored_backup_gives_all_of_its_history(start_server: StartServer, town_at, tmp_path: Path) -> None:
    server = start_server()
    one, other, room_id = await town_at(server).pair()
    for number in range(10):
        await one.send(room_id, f"kept {number}")
    server.stop()
    shutil.copytree(server.data_dir, tmp_path / "backup")
    server.start()
    town = town_at(server)
    one, other = town.resident(one), town.resident(other)
    for number in range(10):
        await one.send(room_id, f"lost {number}")
    device = await other.connect()
    ack = await device.call("sync", {"rooms": {room_id: 0}})
    known = ack["epoch"]
    assert len(ack["rooms"][0]["messages"]) == 20
    running = epoch("--new", *of(server))
    assert running.returncode == 1
    assert running.stderr.startswith("not changed: ") and "in use by another server" in running.stderr
    server.stop()

    shutil.rmtree(server.data_dir)
    shutil.copytree(tmp_path / "backup", server.data_dir)
    done = epoch("--new", *of(server))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("new epoch: ")
    server.start()
    town = town_at(server)
    one, other = town.resident(one), town.resident(other)
    for number in range(15):
        await one.send(room_id, f"after {number}")
    device = await other.connect()
    ack = await device.call("sync", {"rooms": {room_id: 20}, "epoch": known})
    assert ack["reset"] is True
    assert done.stdout == f"new epoch: {ack['epoch']}\n" != f"new epoch: {known}\n"
    [room] = ack["rooms"]
    assert [message["seq"] for message in room["messages"]] == list(range(1, 26))
    assert [message["content"] for message in room["messages"]][8:12] == ["kept 8", "kept 9", "after 0", "after 1"]
    assert (room["lastSeq"], room["hasMore"]) == (25, False)
    beyond = await device.call("sync", {"rooms": {room_id: 26}, "epoch": ack["epoch"]})
    check_refused(beyond, "VALIDATION_FAILED", f"rooms.{room_id}")
    server.stop()
    asked = epoch(*of(server))
    assert (asked.returncode, asked.stdout, asked.stderr) == (0, f"{ack['epoch']}\n", "")
    missing = epoch("--new", *of(server), "--set", "mongodb.database=misspelt")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("not changed: there is no database misspelt")


def test_where_there_is_no_database_none_is_made(tmp_path: Path) -> None:
    done = epoch("--new", "--set", f"data_dir={tmp_path / 'none'}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"not changed: there is no embedded database in {tmp_path / 'none'}\n"
    assert not (tmp_path / "none").exists()
    done = epoch(
        "--set", "mongodb.uri=mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=500", "--set", f"data_dir={tmp_path}"
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("not known: the database does not answer")
