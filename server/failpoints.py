"""Named crash points in the path of a message: tests end the process there, as a power cut would, at a chosen pass."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, Final

# For example `CRASH_AT_MADANG=after-insert:3`. Not one of the settings, so that no configuration can hold it.
VARIABLE: Final = "CRASH_AT_MADANG"
AFTER_INSERT: Final = "after-insert"
AFTER_ACK: Final = "after-ack"
AFTER_PUSH: Final = "after-push"
BEFORE_TRIM: Final = "before-trim"
POINTS: Final = (AFTER_INSERT, AFTER_ACK, AFTER_PUSH, BEFORE_TRIM)
# Long enough for answers that are written already to leave the process.
FLUSH_SECONDS: Final = 0.02


class Failpoints:
    """Does nothing unless it is told a point and a count; then the process kills itself there at that pass."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        point, _, count = environment.get(VARIABLE, "").partition(":")
        if point and point not in POINTS:
            raise ValueError(f"{VARIABLE}: no crash point is called {point}; there are {', '.join(POINTS)}")
        self._point = point
        self._passes_left = int(count or 1)

    def reach(self, point: str) -> None:
        """Pass a point, or end here."""
        if point == self._point:
            self._passes_left -= 1
            if self._passes_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def end_before(self, point: str, call: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return `call`. If this point is armed, return a wrapper that, at its pass, kills the process instead.

        What was written before has left the process by then.
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
