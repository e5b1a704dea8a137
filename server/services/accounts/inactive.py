"""Ends the connections of people who have been deactivated, by whatever means, within five seconds."""

import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from server.services.accounts.profiles import Profiles

# A look gives way to messages: it waits until none has come or been under way for so long,
QUIET_SECONDS: Final = 0.3
# but begins this long after the one before at the latest, so that five seconds are kept also where it takes a moment.
LONGEST_PAUSE: Final = 4.0
SHORTEST_PAUSE: Final = 3.0
# Where so many are inactive that a look takes long, it takes this part of the time at most.
SHARE: Final = 0.1


class InactivePeople:
    """`look` is to be called several times a second; it asks the store far less often."""

    def __init__(
        self,
        people: Profiles,
        connected: Callable[[], Collection[str]],
        quiet_seconds: Callable[[], float],
        end: Callable[[str], Awaitable[None]],
    ) -> None:
        self._people = people
        self._connected = connected
        self._quiet_seconds = quiet_seconds
        self._end = end
        self._earliest = time.monotonic() + SHORTEST_PAUSE
        self._latest = self._earliest

    async def look(self) -> None:
        """End whoever is connected and inactive. Raises `Unavailable`."""
        begun = time.monotonic()
        if begun < self._earliest or (begun < self._latest and self._quiet_seconds() < QUIET_SECONDS):
            return
        for user_id in await self._people.find_inactive(self._connected()):
            await self._end(user_id)
        ended = time.monotonic()
        self._earliest = ended + max(SHORTEST_PAUSE, (ended - begun) / SHARE)
        self._latest = max(self._earliest, ended + LONGEST_PAUSE)
