"""Decides when a client reads too slowly of what it is sent."""

import time
from typing import Final

# One group commit can answer hundreds of long messages in one turn of the event loop, before anybody could read a
# byte. So a reader gets a moment for more than `max_unsent`, but not for this many times as much.
GRACE: Final = 1.0
MOST_AT_ONCE: Final = 16


class SendBuffer:
    """The unsent bytes of one client. It exists while something waits to be sent.

    The largest piece on its way does not count: one piece of missed messages, by `messages:offline` or
    `sync`, may be larger than `max_unsent` alone.
    """

    __slots__ = ("_behind_since", "_largest", "_max_unsent")

    def __init__(self, max_unsent: int, *, largest: int = 0) -> None:
        self._max_unsent = max_unsent
        self._largest = largest
        self._behind_since: float | None = None

    def is_too_long_with(self, piece: int, waiting: int) -> bool:
        """Whether the client is to be cut off, now that `piece` is added to what is `waiting`."""
        self._largest = max(self._largest if waiting else 0, piece)
        unsent = waiting + piece - self._largest
        if unsent <= self._max_unsent:
            self._behind_since = None
            return False
        now = time.monotonic()
        if self._behind_since is None:
            self._behind_since = now
        return now - self._behind_since > GRACE or unsent > MOST_AT_ONCE * self._max_unsent
