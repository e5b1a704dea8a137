"""Who is online: told once when somebody comes, and once when they have stayed away for the grace time."""

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final

from server.concurrency.batcher import Batcher
from server.errors import Unavailable
from server.models import User, now
from server.protocol import USER_OFFLINE, USER_ONLINE, PresenceQuery, PresenceView, wire_time
from server.realtime.hub import Hub
from server.services.presence.online import OnlineUsers
from server.services.presence.ports import People, Rooms
from server.storage.redis.presence_leases import PresenceLeases

log = logging.getLogger(__name__)

# After a restart clients come back within this time (the official one waits at most 5 s between two tries), so that
# there is somebody to tell of those who stay away.
RETURN_TIME: Final = 10.0
# When a network goes, thousands leave at once: written one by one, they would keep the database from everybody else.
MAX_DEPARTURES: Final = 200

Departure = tuple[str, datetime]


class Presence:
    """A user is online from their first socket until the grace time after their last one.

    Each online user holds a lease in Redis. A server that dies stops renewing, and the next sweep tells those
    concerned. Without Redis presence goes on from memory; only what a dead server left behind waits.
    """

    def __init__(
        self,
        online: OnlineUsers,
        leases: PresenceLeases,
        rooms: Rooms,
        people: People,
        sockets: Hub,
        *,
        grace: float,
        lease: float,
    ) -> None:
        self._online = online.user_ids
        self._leases = leases
        self._rooms = rooms
        self._people = people
        self._sockets = sockets
        self._grace = grace
        self._lease = lease
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._left_behind: dict[str, datetime] = {}
        self._departures: Batcher[Departure] = Batcher(self._take_offline, max_batch=MAX_DEPARTURES)

    async def open(self) -> None:
        """Extend leases that end soon, so that users can reconnect after a restart before they are reported offline."""
        chance = _milliseconds() + round(min(self._lease, RETURN_TIME) * 1000)
        while ending := await self._leases.find_expired(chance - 1):
            self._left_behind.update((user_id, self._last_renewed(until)) for user_id, until in ending)
            await self._leases.renew([user_id for user_id, _ in ending], chance)

    async def connected(self, user_id: str) -> None:
        """The first socket of a user is there."""
        if not self._sockets.is_connected(user_id):
            # Gone again before this ran.
            return
        leaving = self._leaving.pop(user_id, None)
        if leaving is not None:
            leaving.cancel()
        if user_id in self._online:
            return
        self._left_behind.pop(user_id, None)
        self._online.add(user_id)
        await self._renew([user_id])
        try:
            self._sockets.emit(await self._rooms.peers(user_id), USER_ONLINE, {"userId": user_id})
        except Unavailable:
            log.debug("nobody is told that %s is online while the database is away", user_id)

    def disconnected(self, user_id: str) -> None:
        """The last socket of a user went; they are offline unless they come back within the grace time."""
        if user_id in self._online and user_id not in self._leaving:
            self._leaving[user_id] = asyncio.get_running_loop().create_task(self._leave(user_id, now()))

    async def query(self, request: PresenceQuery) -> list[PresenceView]:
        """One line for each user asked for; one who does not exist is offline and was never seen."""
        people = await self._people.get_many(request.user_ids)
        return [self._view(user_id, people.get(user_id)) for user_id in request.user_ids]

    def close(self) -> None:
        """Forget who is leaving: their leases end while nobody renews them, and the next start tells it."""
        for leaving in self._leaving.values():
            leaving.cancel()
        self._leaving.clear()

    async def renew_leases(self) -> None:
        """Renew the leases of everybody who is online; to be called well within the lease time."""
        await self._renew(self._online)

    async def sweep(self) -> None:
        """Take offline whose lease ended: they were online at a server that has died. Raises `Unavailable`."""
        expired = await self._leases.find_expired(_milliseconds())
        await self._renew([user_id for user_id, _ in expired if user_id in self._online])
        gone = [
            (user_id, self._left_behind.get(user_id, self._last_renewed(until)))
            for user_id, until in expired
            if user_id not in self._online
        ]
        await asyncio.gather(*map(self._departures.add, gone))
        for user_id, _ in gone:
            self._left_behind.pop(user_id, None)

    def _last_renewed(self, until: int) -> datetime:
        return datetime.fromtimestamp(until / 1000 - self._lease, UTC)

    async def _leave(self, user_id: str, last_seen: datetime) -> None:
        await asyncio.sleep(self._grace)
        del self._leaving[user_id]
        if self._sockets.is_connected(user_id):
            return
        self._online.discard(user_id)
        try:
            await self._departures.add((user_id, last_seen))
        except Unavailable:
            log.debug("%s went offline; a sweep tells it once the stores are back", user_id)

    async def _take_offline(self, departures: Sequence[Departure]) -> None:
        await self._people.touch_last_seen(dict(departures))
        for user_id, last_seen in departures:
            peers = await self._rooms.peers(user_id)
            if user_id not in self._online:
                self._sockets.emit(peers, USER_OFFLINE, {"userId": user_id, "lastSeenAt": wire_time(last_seen)})
        # Some may be back again since the stores were asked.
        await self._leases.release([user_id for user_id, _ in departures if user_id not in self._online])

    def _view(self, user_id: str, user: User | None) -> PresenceView:
        last_seen = None if user is None or user.last_seen_at is None else wire_time(user.last_seen_at)
        return PresenceView(user_id=user_id, is_online=user_id in self._online, last_seen_at=last_seen)

    async def _renew(self, user_ids: Collection[str]) -> None:
        try:
            await self._leases.renew(user_ids, _milliseconds() + round(self._lease * 1000))
        except Unavailable:
            # Said once, by the store that is away, and not at every arrival.
            log.debug("presence leases are not renewed while Redis is away")


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
