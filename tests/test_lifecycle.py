"""Lifecycle: parts start in order, and drain and stop in reverse, also if one of them fails."""

import asyncio
from collections.abc import Callable

import pytest

from server.lifecycle import Lifecycle, Part


def noting(told: list[str], word: str) -> Callable[[], None]:
    return lambda: told.append(word)


def parts_of(told: list[str], *names: str) -> list[Part]:
    steps = "start", "drain", "stop"
    return [Part(name, *(noting(told, f"{step} {name}") for step in steps)) for name in names]


async def test_parts_are_drained_and_stopped_in_reverse() -> None:
    told: list[str] = []
    lifecycle = Lifecycle(parts_of(told, "one", "two"))
    await lifecycle.start()
    await lifecycle.drain(1)
    await lifecycle.stop()
    assert told == ["start one", "start two", "drain two", "drain one", "stop two", "stop one"]


async def test_a_start_that_fails_is_told_and_everything_can_be_stopped() -> None:
    told: list[str] = []

    async def fail() -> None:
        raise OSError("the disk is full")

    one, two, three = parts_of(told, "one", "two", "three")
    lifecycle = Lifecycle([one, two._replace(start=fail), three])
    with pytest.raises(OSError, match="the disk is full"):
        await lifecycle.start()
    await lifecycle.stop()
    assert told == ["start one", "stop three", "stop two", "stop one"]


async def test_a_part_that_fails_or_hangs_keeps_no_other_from_draining_and_stopping() -> None:
    told: list[str] = []

    async def fail() -> None:
        raise ValueError

    async def hang() -> None:
        await asyncio.Event().wait()

    async def take_a_moment() -> None:
        await asyncio.sleep(0.01)
        told.append("saved")

    one, two, three = parts_of(told, "one", "two", "three")
    saving = one._replace(drain=take_a_moment, least=10)
    lifecycle = Lifecycle([saving, two._replace(drain=hang, least=0.05), three._replace(drain=fail, stop=fail)])
    await lifecycle.drain(0)
    await lifecycle.stop()
    assert told == ["saved", "stop two", "stop one"], "the last gets its time after the deadline"
