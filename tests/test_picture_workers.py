"""The processes that look at pictures: replaced when they die, told little, and shared fairly."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from server.errors import RateLimited, Unavailable
from server.services import pictures
from server.services.pictures import ENVIRONMENT, Picture, Pictures
from tests.conftest import StartServer
from tests.support.people import Town
from tests.support.server_process import ServerProcess
from tests.support.uploads import form, picture, plain_picture, post_form, upload

FLOOD = 16
in_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for the worker in /proc")


@in_proc
async def test_a_picture_worker_that_dies_is_replaced(upload_town: Town, upload_server: ServerProcess) -> None:
    person = await upload_town.person()
    await upload(person, picture())
    for folder in _workers(upload_server):
        os.kill(int(folder.name), signal.SIGKILL)
    assert (await upload(person, picture()))["width"] == 64


@in_proc
async def test_a_picture_worker_has_little_in_its_environment(upload_town: Town, upload_server: ServerProcess) -> None:
    await upload(await upload_town.person(), picture())
    for folder in _workers(upload_server):
        variables = (folder / "environ").read_text().split("\0")
        assert {variable.partition("=")[0] for variable in variables} <= {"", *ENVIRONMENT}


def _workers(server: ServerProcess) -> list[Path]:
    """Where /proc describes the picture workers of this server; there is at least one."""
    found = [
        folder
        for folder in Path("/proc").glob("[0-9]*")
        if _has_parent(folder, server.pid) and b"picture_worker" in (folder / "cmdline").read_bytes()
    ]
    assert found
    return found


def _has_parent(folder: Path, parent: int) -> bool:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent
    except OSError:
        return False


async def test_many_large_pictures_of_one_user_delay_nobody_else(start_server: StartServer, town_at) -> None:
    sender, other = await town_at(start_server()).people(2)
    large, small = plain_picture((3000, 3000)), picture()
    answered: list[int] = []

    async def flood() -> None:
        answered.append((await post_form(sender, form(large))).status)

    flooding = [asyncio.create_task(flood()) for _ in range(FLOOD)]
    # Sent after them, because tasks begin in this order.
    assert (await asyncio.create_task(upload(other, small)))["width"] == 64
    assert len(answered) < FLOOD / 2, "one large picture or two are what the small one waits for, once it is there"
    await asyncio.gather(*flooding)
    assert answered == [201] * FLOOD


async def test_pictures_that_wait_are_bounded_for_each_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_WAITING_PER_USER", 2)
    monkeypatch.setattr(pictures, "MAX_WAITING", 4)
    file = tmp_path / "a.png"
    file.write_bytes(picture())
    for is_limited, waiting, refusal in (True, 2, RateLimited), (False, 4, Unavailable):
        looking = Pictures(is_limited=is_limited)
        most = pictures.WORKERS + waiting
        calls = (looking.examine("somebody", file, tmp_path / f"small-{number}") for number in range(most + 2))
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in found] == [Picture] * most + [refusal] * 2
        await looking.close()
