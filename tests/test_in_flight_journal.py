"""The in-flight journal: a damaged file stops no start, and servers that share a folder keep apart."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from server.config.load import load
from server.context import open_context
from server.storage.disk.files import DiskThreads
from server.storage.disk.in_flight_journal import InFlightJournal
from tests.support.server_process import ROOT

NAME = "unsettled_rooms"


@asynccontextmanager
async def notes_in(folder: Path) -> AsyncIterator[tuple[InFlightJournal, set[str]]]:
    """The notes of one server, and what it found at its start."""
    threads = DiskThreads(1)
    notes = InFlightJournal(folder / NAME, threads)
    try:
        yield notes, await notes.open()
    finally:
        threads.close()
        notes.close()


async def left_in(folder: Path) -> set[str]:
    async with notes_in(folder) as (_notes, found):
        return found


def room_ids(count: int) -> list[str]:
    return [uuid4().hex for _ in range(count)]


async def test_what_was_added_and_not_forgotten_is_found(tmp_path: Path) -> None:
    kept, forgotten, added = room_ids(3)
    async with notes_in(tmp_path) as (notes, found):
        assert found == set()
        await notes.add([kept, forgotten])
        await notes.replace([kept])
        await notes.add([added])
    assert await left_in(tmp_path) == {kept, added}


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00" * 30, b"\x00" * 4096, b"half a line", b"\n" + b"z" * 32 + b"\n"])
async def test_a_damaged_file_keeps_what_can_be_read(tmp_path: Path, damage: bytes) -> None:
    (kept,) = room_ids(1)
    (tmp_path / NAME).write_bytes(damage)
    async with notes_in(tmp_path) as (notes, found):
        assert found == set()
        await notes.add([kept])
    assert await left_in(tmp_path) == {kept}


async def test_two_servers_in_one_folder_do_not_forget_each_others_rooms(tmp_path: Path) -> None:
    first, second, third = room_ids(3)
    async with notes_in(tmp_path) as (one, found):
        assert found == set()
        await one.add([first])
        async with notes_in(tmp_path) as (other, found):
            assert found == set(), "what a living server is at is not left"
            await other.add([second])
            await one.replace([first])
            await other.replace([second])
            assert await left_in(tmp_path) == set()
            await one.add([third])
    # Only one of the two comes back.
    assert await left_in(tmp_path) == {first, second, third}
    assert await left_in(tmp_path) == {first, second, third}


async def test_a_server_starts_with_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / NAME).write_bytes(b"\xff" * 100 + b"\n" + uuid4().hex.encode() + b"\n")
    async with open_context(load(ROOT / "config.yaml", [f"data_dir={tmp_path / 'data'}"], {})) as context:
        assert await context.health.find_unavailable() == []
