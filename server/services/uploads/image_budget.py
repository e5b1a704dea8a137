"""CPU budget of each user for examining pictures."""

import time
from typing import Final

from server.concurrency.ttl_cache import TtlCache
from server.errors import RateLimited

# A burst is an album of several hundred photographs; sustained use is a quarter of one core.
BURST_SECONDS: Final = 120.0
SHARE: Final = 0.25
# Users beyond these most recent ones have a full budget and no penalty.
MAX_USERS: Final = 10_000
# Seconds of low priority after a picture that ran into the time limit.
PENALTY_SECONDS: Final = 600.0


class ImageBudget:
    """CPU seconds for each user, which refill over time."""

    def __init__(self, *, is_limited: bool) -> None:
        self._is_limited = is_limited
        self._spent: TtlCache[str, tuple[float, float]] = TtlCache(MAX_USERS, BURST_SECONDS / SHARE)
        self._slow: TtlCache[str, bool] = TtlCache(MAX_USERS, PENALTY_SECONDS)

    def check(self, user_id: str) -> None:
        """Raises `RateLimited` if nothing is left."""
        over = self._owed(user_id) - BURST_SECONDS
        if self._is_limited and over >= 0:
            raise RateLimited(
                "Your pictures took too much time", limit="image_time", retry_after=max(1.0, over / SHARE)
            )

    def spend(self, user_id: str, seconds: float) -> None:
        self._spent.put(user_id, (self._owed(user_id) + seconds, time.monotonic()))

    def note_slow(self, user_id: str) -> None:
        """A picture of this user ran into the time limit."""
        self._slow.put(user_id, True)

    def is_slow(self, user_id: str) -> bool:
        return self._slow.get(user_id) is not None

    def _owed(self, user_id: str) -> float:
        spent, at = self._spent.get(user_id) or (0.0, 0.0)
        return max(0.0, spent - (time.monotonic() - at) * SHARE)
