"""Runs the server with a wall clock that SIGUSR1 sets one hour forward, and SIGUSR2 one hour back."""

import signal
import sys
import time

from main import main

HOUR = 3600.0


class SteppingClock:
    def __init__(self) -> None:
        self._real_time = time.time
        self._offset = 0.0

    def time(self) -> float:
        return self._real_time() + self._offset

    def time_ns(self) -> int:
        return round(self.time() * 1_000_000_000)

    def step(self, number: int, _frame: object) -> None:
        self._offset += HOUR if number == signal.SIGUSR1 else -HOUR


if __name__ == "__main__":
    clock = SteppingClock()
    time.time, time.time_ns = clock.time, clock.time_ns
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, clock.step)
    sys.exit(main(sys.argv[1:]))
