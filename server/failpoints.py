"""Failpoints in the message path: at a chosen pass, the process kills itself as a crash would. For tests."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, Final

# For example `CRASH_AT_MADANG=after-insert:3`. Not a setting, so that no configuration file can arm a failpoint.
VARIABLE: Final = "CRASH_AT_MADANG"
AFTER_INSERT: Final = "after-insert"
AFTER_ACK: Final = "after-ack"
AFTER_ENQUEUE: Final = "after-enqueue"
BEFORE_TRIM: Final = "before-trim"
AFTER_CHANGE: Final = "after-change"
POINTS: Final = (AFTER_INSERT, AFTER_ACK, AFTER_ENQUEUE, BEFORE_TRIM, AFTER_CHANGE)
# Time for frames that are already written to leave the process.
FLUSH_SECONDS: Final = 0.02


class Failpoints:
    """At most one armed failpoint. Raises `ValueError` if the variable names an unknown one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        point, _, count = environment.get(VARIABLE, "").partition(":")
        if point and point not in POINTS:
            raise ValueError(f"{VARIABLE}: unknown failpoint {point}; valid: {', '.join(POINTS)}")
        self._point = point
        self._passes_left = int(count or 1)

    def reach(self, point: str) -> None:
        """Kill the process if this failpoint is armed and this is its pass."""
        if point == self._point:
            self._passes_left -= 1
            if self._passes_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def end_before(self, point: str, call: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return `call`. If this point is armed, return a wrapper that, at its pass, kills the process instead.

        Frames that were written before leave the process first.
        """
        if point != self._point:
            return call

        def pass_or_end(argument: Any) -> None:
            self._passes_left -= 1
            if self._passes_left == 0:
                asyncio.get_running_loop().call_later(FLUSH_SECONDS, os.kill, os.getpid(), signal.SIGKILL)
            elif self._passes_left > 0:
                call(argument)

        return pass_or_end
