"""Where a round's server lives: on stores of its own, on stores outside, under a movable clock, or on a small disk."""

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

from tests.support.named_stores import named_stores, remove_all
from tests.torture.faults import CLOCK, DISK, EMBEDDED, NAMED, OUTSIDE, Fault
from tests.torture.ground import Ground
from tests.torture.outside import OutsideStores

CLOCK_LIBRARIES = ("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")
DISK_MEGABYTES = 256


class Place(NamedTuple):
    """`why_not` says what this machine lacks for it, or nothing."""

    faults: tuple[Fault, ...]
    open: Callable[[Path], AbstractAsyncContextManager[Ground]]
    why_not: Callable[[], str]


@contextlib.asynccontextmanager
async def own_stores(folder: Path) -> AsyncIterator[Ground]:
    yield Ground(folder / "embedded")


@contextlib.asynccontextmanager
async def outside_stores(folder: Path) -> AsyncIterator[Ground]:
    stores = OutsideStores(folder / "stores")
    try:
        await stores.start()
        yield Ground(folder / "outside", stores.settings, stores=stores)
    finally:
        await stores.stop()


@contextlib.asynccontextmanager
async def stores_by_name(folder: Path) -> AsyncIterator[Ground]:
    """What only hurts the server itself strikes here: these stores are somebody's."""
    settings = named_stores(folder)
    try:
        yield Ground(folder / "named", settings, redis_url=str(settings.get("redis.url", "")))
    finally:
        remove_all()


@contextlib.asynccontextmanager
async def movable_clock(folder: Path) -> AsyncIterator[Ground]:
    """The server and its children see the time that a file says. All their clocks jump, as when a machine has slept."""
    folder.mkdir(parents=True, exist_ok=True)
    clock = folder / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": _clock_library(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
    }
    yield Ground(folder / "clock_server", environment=environment, clock=clock)


@contextlib.asynccontextmanager
async def small_disk(folder: Path) -> AsyncIterator[Ground]:
    disk = folder / "disk"
    disk.mkdir(parents=True, exist_ok=True)
    _mount(disk)
    try:
        yield Ground(folder / "disk_server", data_dir=disk / "data", disk=disk)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _mount(disk: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", str(disk)]
    subprocess.run(command, check=True, capture_output=True)


def _clock_library() -> str:
    return next((path for path in CLOCK_LIBRARIES if Path(path).exists()), "")


def _why_no_clock() -> str:
    return "" if _clock_library() else "libfaketime is not installed"


def _why_no_disk() -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root may mount a small disk"
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return "" if subprocess.run(probe, capture_output=True).returncode == 0 else "mounting is not allowed here"


def _why_no_names() -> str:
    return "" if named_stores(Path()) else "make test-stores names stores for it"


def _nothing() -> str:
    return ""


PLACES = (
    Place(EMBEDDED, own_stores, _nothing),
    Place(OUTSIDE, outside_stores, _nothing),
    Place(NAMED, stores_by_name, _why_no_names),
    Place(CLOCK, movable_clock, _why_no_clock),
    Place(DISK, small_disk, _why_no_disk),
)
