"""Background tasks that somebody holds on to, so that none is lost, and whose failures are logged."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from server.errors import ChatError, Unavailable

log = logging.getLogger(__name__)


class Tasks:
    """Runs work beside its caller. The event loop itself keeps only weak references to tasks."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Start `work`; what it raises ends in the log."""
        task = asyncio.get_running_loop().create_task(_logged(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Unavailable as error:
        # Said once, by the store that is away, and not by each of those that wait for it.
        log.debug("a task gave up: %s", error)
    except ChatError as error:
        log.warning("a task gave up: %s", error.code)
    except Exception:
        log.exception("a task failed")
