"""Disconnects deactivated users within five seconds, however they were deactivated."""

import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from server.services.accounts.profiles import Profiles

# A check waits until no message has arrived or been in flight for this long,
QUIET_SECONDS: Final = 0.1
# but starts at most this long after the previous one, which leaves half a second of the five for the check itself.
LONGEST_PAUSE: Final = 4.5
SHORTEST_PAUSE: Final = 1.0
# If many inactive users make the checks slow, they take at most this share of the time.
SHARE: Final = 0.1


class InactivePeople:
    """Call `look` several times a second; it queries the store far less often."""

    def __init__(
        self,
        profiles: Profiles,
        connected: Callable[[], Collection[str]],
        quiet_seconds: Callable[[], float],
        end: Callable[[str], Awaitable[None]],
    ) -> None:
        self._profiles = profiles
        self._connected = connected
        self._quiet_seconds = quiet_seconds
        self._end = end
        self._earliest = time.monotonic() + SHORTEST_PAUSE
        self._latest = self._earliest

    async def disconnect_inactive(self) -> None:
        """Disconnect the connected users who are inactive. Raises `Unavailable`."""
        begun = time.monotonic()
        if begun < self._earliest or (begun < self._latest and self._quiet_seconds() < QUIET_SECONDS):
            return
        for user_id in await self._profiles.find_inactive(self._connected()):
            await self._end(user_id)
        ended = time.monotonic()
        self._earliest = ended + max(SHORTEST_PAUSE, (ended - begun) / SHARE)
        self._latest = max(self._earliest, ended + LONGEST_PAUSE)
