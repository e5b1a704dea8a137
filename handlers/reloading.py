"""SIGHUP: reads the configuration again, and continues with what can change live."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from typing import Final

from server.config.reloading import apply_changes
from server.config.settings import Settings
from server.config.sources import ConfigError
from server.context import Context

STDIN: Final = 0

log = logging.getLogger(__name__)


@contextlib.contextmanager
def reloading(context: Context, load: Callable[[], Settings] | None, stop: Callable[[], None]) -> Iterator[None]:
    """While this lasts, SIGHUP reloads, if `load` is given; from a terminal that was closed it is the end: `stop`."""
    loop = asyncio.get_running_loop()
    had_terminal = _has_terminal()

    def take() -> None:
        if had_terminal and not _has_terminal():
            stop()
        elif load is not None:
            _reload(context, load)

    loop.add_signal_handler(signal.SIGHUP, take)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _has_terminal() -> bool:
    try:
        os.tcgetpgrp(STDIN)
    except (OSError, ValueError):
        return False
    return True


def _reload(context: Context, load: Callable[[], Settings]) -> None:
    """Continue with the new configuration, or with the old one if anything in it is wrong."""
    try:
        reload = apply_changes(context.settings, load())
        context.configure(reload.settings)
    except ConfigError as error:
        log.error("configuration not reloaded error=%s", str(error))
        return
    except (OSError, ValueError) as error:
        log.error("configuration not reloaded error=%s", type(error).__name__)
        return
    changed, needs_restart = ", ".join(reload.changed) or "nothing", ", ".join(reload.needs_restart) or "nothing"
    log.warning("configuration reloaded changed=%s needs_restart=%s", changed, needs_restart)
