"""Background tasks: keeps references to them, so that none is garbage-collected, and logs their failures."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from server.errors import ChatError, Unavailable

log = logging.getLogger(__name__)


class Tasks:
    """Runs coroutines in the background. The event loop itself keeps only weak references to tasks."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Start `work`; its exceptions are logged."""
        task = asyncio.get_running_loop().create_task(_logged(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Unavailable as error:
        # The store logs its outage once; the tasks that need it do not repeat it.
        log.debug("background task stopped error=%s", error)
    except ChatError as error:
        log.warning("background task failed code=%s", error.code)
    except Exception:
        log.exception("background task failed")
