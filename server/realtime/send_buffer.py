"""Send buffer accounting of one client: decides when it reads too slowly and must be disconnected."""

import time
from typing import Final

# One group commit can answer hundreds of long messages in one turn of the event loop, before a client can read a byte.
# So a client may exceed `max_unsent` for `GRACE` seconds, but never by this factor.
GRACE: Final = 1.0
MOST_AT_ONCE: Final = 16


class SendBuffer:
    """The unsent bytes of one client. It exists while something waits to be sent.

    The largest unsent piece does not count: missed messages in one `messages:offline` event or `sync` ack may exceed
    `max_unsent` alone.
    """

    __slots__ = ("_behind_since", "_largest", "_max_unsent")

    def __init__(self, max_unsent: int, *, largest: int = 0) -> None:
        self._max_unsent = max_unsent
        self._largest = largest
        self._behind_since: float | None = None

    def is_too_long_with(self, piece: int, waiting: int) -> bool:
        """Whether to disconnect the client, as `piece` bytes are added to `waiting` unsent bytes."""
        self._largest = max(self._largest if waiting else 0, piece)
        unsent = waiting + piece - self._largest
        if unsent <= self._max_unsent:
            self._behind_since = None
            return False
        now = time.monotonic()
        if self._behind_since is None:
            self._behind_since = now
        return now - self._behind_since > GRACE or unsent > MOST_AT_ONCE * self._max_unsent
