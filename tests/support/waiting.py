"""Waits for conditions with a deadline, in place of sleeps."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.support.device import DEADLINE, Device
from tests.support.people import Person

PAUSE = 0.05  # between two looks at something that sends no event


async def eventually(look: Callable[[], Awaitable[bool]], what: str, deadline: float = DEADLINE) -> None:
    """Look again and again until it is true."""
    try:
        async with asyncio.timeout(deadline):
            while not await look():
                await asyncio.sleep(PAUSE)
    except TimeoutError:
        raise AssertionError(f"never came true within {deadline} s: {what}") from None


async def go_offline(person: Person, device: Device, witness: Device) -> None:
    """Disconnect someone's last device and wait until the server says so to `witness`, who shares a room."""
    await device.leave()
    await witness.next("user:offline", lambda told: told["userId"] == person.id)
