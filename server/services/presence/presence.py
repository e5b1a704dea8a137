"""Online status: announced when a user connects, and when they stay disconnected for the grace time."""

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from server.blocks import BlockIndex
from server.concurrency.batcher import Batcher
from server.errors import Unavailable
from server.events import USER_OFFLINE, USER_ONLINE, UserOffline, UserOnline
from server.models import now
from server.protocol import PresenceView, wire_time
from server.realtime.connection import Connection
from server.realtime.fan_out import FanOut
from server.realtime.frames import event_frame
from server.requests import PresenceQuery
from server.services.presence.online import OnlineUsers
from server.services.presence.ports import People, Rooms
from server.services.presence.watchers import Watchers
from server.storage.redis.presence_leases import PresenceLeases
from server.views import view_presence

log = logging.getLogger(__name__)

# Clients reconnect within this time after a restart (the official one waits at most 5 s between two attempts). Offline
# events that are sent earlier reach no socket.
RECONNECT_TIME: Final = 10.0
# A network failure disconnects thousands at once. Written one by one, they would block the database for others.
MAX_OFFLINE_BATCH: Final = 200

OfflineUser = tuple[str, datetime]


class Presence:
    """A user is online from their first socket until the grace time after their last one.

    Each online user has a lease in Redis. A server that dies stops renewing its leases, and the next sweep announces
    its users as offline. Without Redis, presence works from memory; only such sweeps wait.
    """

    def __init__(
        self,
        online: OnlineUsers,
        leases: PresenceLeases,
        rooms: Rooms,
        people: People,
        fan_out: FanOut,
        watchers: Watchers,
        blocks: BlockIndex,
        *,
        grace: float,
        lease: float,
    ) -> None:
        self._online = online.user_ids
        self._leases = leases
        self._rooms = rooms
        self._people = people
        self._fan_out = fan_out
        self._watchers = watchers
        self._blocks = blocks
        self._grace = grace
        self._lease = lease
        self._grace_tasks: dict[str, asyncio.Task[None]] = {}
        self._inherited_last_seen: dict[str, datetime] = {}
        self._offline_batcher: Batcher[OfflineUser] = Batcher(self._take_offline, max_batch=MAX_OFFLINE_BATCH)

    async def open(self) -> None:
        """Extend leases that end soon, so that users can reconnect after a restart before they are reported offline."""
        deadline = _milliseconds() + round(min(self._lease, RECONNECT_TIME) * 1000)
        while ending := await self._leases.find_expired(deadline - 1):
            self._inherited_last_seen.update((user_id, self._last_renewed(until)) for user_id, until in ending)
            await self._leases.renew([user_id for user_id, _ in ending], deadline)

    async def connected(self, user_id: str) -> None:
        """The user's first socket is connected."""
        if not self._fan_out.is_connected(user_id):
            # Disconnected before this ran.
            return
        task = self._grace_tasks.pop(user_id, None)
        if task is not None:
            task.cancel()
        if user_id in self._online:
            return
        self._inherited_last_seen.pop(user_id, None)
        self._online.add(user_id)
        await self._renew([user_id])
        try:
            self._tell(user_id, await self._rooms.peers(user_id), USER_ONLINE, UserOnline(user_id))
        except Unavailable:
            log.debug("online event dropped: MongoDB unavailable user=%s", user_id)

    def disconnected(self, user_id: str) -> None:
        """The user's last socket is disconnected; they are offline unless they reconnect within the grace time."""
        if user_id in self._online and user_id not in self._grace_tasks:
            self._grace_tasks[user_id] = asyncio.get_running_loop().create_task(self._end_after_grace(user_id, now()))

    async def query(
        self, asker_id: str, request: PresenceQuery, connection: Connection | None = None
    ) -> list[PresenceView]:
        """One entry per requested user. Unknown users are offline, without a last-seen time, and so are those from whom
        the asker is apart.

        With `watch`, the connection hears of their further changes, in place of those that it watched before.
        """
        if request.watch and connection is not None and connection.is_open:
            # Before the answer, so that no change falls in between.
            self._watchers.watch(connection, request.user_ids)
        people = await self._people.get_many(request.user_ids)
        apart = self._blocks.apart_from(asker_id)
        return [
            view_presence(user_id, None, False)
            if user_id in apart
            else view_presence(user_id, people.get(user_id), user_id in self._online)
            for user_id in request.user_ids
        ]

    def forget(self, connection: Connection) -> None:
        """The connection is closed, and watches nobody."""
        self._watchers.forget(connection)

    def close(self) -> None:
        """Cancel all grace timers. The leases of these users expire, and the next start announces them as offline."""
        for task in self._grace_tasks.values():
            task.cancel()
        self._grace_tasks.clear()

    async def renew_leases(self) -> None:
        """Renew the leases of all online users; to be called well within the lease time."""
        await self._renew(self._online)

    async def sweep(self) -> None:
        """Take users with expired leases offline: their server has died. Raises `Unavailable`."""
        expired = await self._leases.find_expired(_milliseconds())
        await self._renew([user_id for user_id, _ in expired if user_id in self._online])
        offline = [
            (user_id, self._inherited_last_seen.get(user_id, self._last_renewed(until)))
            for user_id, until in expired
            if user_id not in self._online
        ]
        await asyncio.gather(*map(self._offline_batcher.add, offline))
        for user_id, _ in offline:
            self._inherited_last_seen.pop(user_id, None)

    def _last_renewed(self, until: int) -> datetime:
        return datetime.fromtimestamp(until / 1000 - self._lease, UTC)

    async def _end_after_grace(self, user_id: str, last_seen: datetime) -> None:
        await asyncio.sleep(self._grace)
        del self._grace_tasks[user_id]
        if self._fan_out.is_connected(user_id):
            return
        self._online.discard(user_id)
        try:
            await self._offline_batcher.add((user_id, last_seen))
        except Unavailable:
            log.debug("offline event deferred to a sweep: a store is unavailable user=%s", user_id)

    async def _take_offline(self, users: Sequence[OfflineUser]) -> None:
        await self._people.touch_last_seen(dict(users))
        for user_id, last_seen in users:
            peers = await self._rooms.peers(user_id)
            if user_id not in self._online:
                self._tell(user_id, peers, USER_OFFLINE, UserOffline(user_id, wire_time(last_seen)))
        # Some may have reconnected during the calls above.
        await self._leases.release([user_id for user_id, _ in users if user_id not in self._online])

    def _tell(self, user_id: str, peers: Collection[str], event: str, payload: Any) -> None:
        frame = event_frame(event, payload)
        apart = self._blocks.apart_from(user_id)
        told = [peer for peer in peers if peer not in apart] if apart else peers
        self._fan_out.send(told, frame)
        self._watchers.send(user_id, frame, skip=apart | set(peers) if apart else peers)

    async def _renew(self, user_ids: Collection[str]) -> None:
        try:
            await self._leases.renew(user_ids, _milliseconds() + round(self._lease * 1000))
        except Unavailable:
            # The store itself logs its outage as a warning, once.
            log.debug("presence leases not renewed: Redis unavailable")


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
