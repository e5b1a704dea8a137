"""Lifecycle: the parts of the server in the order of their start, drained and stopped in reverse."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from server.concurrency.periodic import do_quietly, do_until

Step = Callable[[], Awaitable[object] | None]


class Part(NamedTuple):
    """What one part does when the server starts, drains and stops. All steps are optional.

    `start` may fail, and then the server does not start. `drain` finishes work that was accepted; it is cancelled at
    the deadline of the drain, but gets `least` seconds. With `least=None` it is not cancelled. `stop` releases what the
    part holds, and must bear that the part was not started.
    """

    name: str
    start: Step | None = None
    drain: Step | None = None
    stop: Step | None = None
    least: float | None = None


class Lifecycle:
    """Failures to drain or stop are logged and keep no other part from doing so."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    async def start(self) -> None:
        """Start all parts, one after the other. Raises what a part raises; `stop` is to be called then too."""
        for part in self._parts:
            if part.start is not None:
                await _take(part.start)

    async def drain(self, timeout: float) -> None:
        """Drain all parts in reverse order, within `timeout` seconds and what the parts get at least."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        for part in reversed(self._parts):
            if part.drain is None:
                continue
            if part.least is None:
                await do_quietly(functools.partial(_take, part.drain))
            else:
                await do_until(max(deadline, loop.time() + part.least), functools.partial(_take, part.drain))

    async def stop(self) -> None:
        """Stop all parts in reverse order."""
        for part in reversed(self._parts):
            if part.stop is not None:
                await do_quietly(functools.partial(_take, part.stop))


async def _take(step: Step) -> None:
    done = step()
    if done is not None:
        await done
