"""Image workers: replaced when they die, isolated, and shared fairly."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from server.errors import RateLimited, Unavailable, UnsupportedMediaType
from server.services.uploads import image_budget, images
from server.services.uploads.image_worker import count_scans
from server.services.uploads.images import ENVIRONMENT, Image, ImageWorkers
from tests.conftest import StartServer
from tests.support.people import Town
from tests.support.server_process import ROOT, ServerProcess
from tests.support.shapes import check_problem
from tests.support.uploads import form, many_scans, picture, plain_picture, post_form, upload

FLOOD = 16
WORKERS = images.WORKERS
STRICT_WORKER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from PIL import Image
from server.services.uploads import image_worker
Image.init()
image_worker.CPU_SECONDS = 0.15
image_worker.main(int(sys.argv[1]))
"""
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
        if _has_parent(folder, server.pid) and b"image_worker" in (folder / "cmdline").read_bytes()
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
    monkeypatch.setattr(images, "MAX_WAITING_PER_USER", 2)
    monkeypatch.setattr(images, "MAX_WAITING", 4)
    file = tmp_path / "a.png"
    file.write_bytes(picture())
    for is_limited, waiting, refusal in (True, 2, RateLimited), (False, 4, Unavailable):
        looking = ImageWorkers(is_limited=is_limited)
        most = images.WORKERS + waiting
        calls = (looking.examine("somebody", file, tmp_path / f"small-{number}") for number in range(most + 2))
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in found] == [Image] * most + [refusal] * 2
        await looking.close()


async def test_a_picture_of_many_scans_is_refused_before_it_is_decoded(upload_town: Town) -> None:
    person = await upload_town.person()
    for size, scans in ((64, 48), 65), ((4500, 4500), 30), ((4500, 4500), 3000):
        data = many_scans(size, scans)
        answer = await post_form(person, form(data, "a.jpg"))
        check_problem(answer, "UNSUPPORTED_MEDIA_TYPE")
        assert "scans" in answer.body["detail"], answer
        stored = await upload(person, data, "a.jpg", type="FILE")
        assert (stored["type"], stored["mimeType"]) == ("FILE", "application/octet-stream")
    for size, scans in ((64, 48), 64), ((2000, 2000), 10):
        assert (await upload(person, many_scans(size, scans)))["width"] == size[0]


async def test_scans_are_counted_in_the_picture_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    data = many_scans((64, 48), 12)
    # A thumbnail of the camera in front, a film behind, and bytes that only look like a marker.
    inner = picture("JPEG")
    data = data[:2] + b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner + data[2:] + b"\xff\xda" * 100
    file.write_bytes(data)
    assert count_scans(str(file)) == 12
    file.write_bytes(picture("JPEG", (900, 900)))
    assert count_scans(str(file)) == 1


@pytest.fixture
def one_strict_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker at once, which ends soon; what it needs is loaded before it begins to count."""
    program = tmp_path / "strict_worker.py"
    program.write_text(STRICT_WORKER)
    monkeypatch.setattr(images, "WORKER", program)
    monkeypatch.setattr(images, "WORKERS", 1)


@pytest.mark.usefixtures("one_strict_worker")
async def test_whoever_ran_into_the_time_limit_comes_after_all_others(tmp_path: Path) -> None:
    large, small = tmp_path / "large.png", tmp_path / "small.png"
    large.write_bytes(plain_picture((4900, 4900)))
    small.write_bytes(picture())
    looking = ImageWorkers(is_limited=True)
    with pytest.raises(UnsupportedMediaType, match="too long"):
        await looking.examine("slow", large, tmp_path / "thumbnail")
    done: list[str] = []

    async def look(user_id: str) -> None:
        await looking.examine(user_id, small, tmp_path / f"thumbnail-{len(done)}")
        done.append(user_id)

    # Tasks begin in this order; the first one is at work when the others come.
    await asyncio.gather(*map(look, ["slow", "slow", "slow", "one", "one", "other"]))
    assert done == ["slow", "one", "other", "one", "slow", "slow"]
    await looking.close()


async def test_the_time_of_each_users_pictures_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_budget, "BURST_SECONDS", 0.001)
    monkeypatch.setattr(image_budget, "SHARE", 0.000_001)
    file = tmp_path / "a.png"
    file.write_bytes(plain_picture((2000, 2000)))
    for is_limited in (True, False):
        looking = ImageWorkers(is_limited=is_limited)
        # The second waits for its turn while the first uses all of it up.
        calls = [looking.examine("somebody", file, tmp_path / f"small-{number}") for number in range(WORKERS + 1)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in found] == [Image] * WORKERS + [RateLimited if is_limited else Image]
        if is_limited:
            with pytest.raises(RateLimited):
                await looking.examine("somebody", file, tmp_path / "small")
            assert (await looking.examine("somebody else", file, tmp_path / "small")).width == 2000
        await looking.close()
