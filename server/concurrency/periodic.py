"""Periodic jobs that survive their failures and can be stopped."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from tornado.ioloop import PeriodicCallback

from server.errors import ChatError

log = logging.getLogger(__name__)

Work = Callable[[], Awaitable[object]]


class PeriodicWork:
    """Runs jobs at fixed intervals. A run that takes longer than its interval skips the next one."""

    def __init__(self) -> None:
        self._callbacks: list[PeriodicCallback] = []
        self._running: set[asyncio.Task[None]] = set()

    def start(self, seconds: float, work: Work) -> None:
        """Run `work` every `seconds`, the first time after that long."""
        callback = PeriodicCallback(lambda: self._run(work), seconds * 1000)
        callback.start()
        self._callbacks.append(callback)

    async def stop(self) -> None:
        """Start no more runs, and cancel the current ones."""
        for callback in self._callbacks:
            callback.stop()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def _run(self, work: Work) -> None:
        task = asyncio.get_running_loop().create_task(do_quietly(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.wait([task])


async def do_quietly(work: Work) -> None:
    """Run `work` and log its failure. A `ChatError` goes to the debug log: the store has logged its outage already."""
    try:
        await work()
    except ChatError as error:
        log.debug("periodic work deferred error=%s", error)
    except Exception:
        log.exception("periodic work failed")


async def do_until(deadline: float, work: Work) -> None:
    """Like `do_quietly`, but cancelled at `deadline` (time of the event loop)."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            await do_quietly(work)
