"""The composition root: stores, then services; opened in order, closed in reverse."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from server.batching import Batcher
from server.config import Settings
from server.embedded import EmbeddedStores, StartFailed
from server.errors import Unauthorized, Unavailable, Unusable
from server.faults import AFTER_ACK, CrashPoints
from server.intake import Intake
from server.models import Member
from server.online import OnlineUsers
from server.periodic import PeriodicWork, do_quietly, do_until
from server.realtime import Realtime
from server.secrets import read_or_make_secret
from server.services.accounts import Accounts
from server.services.chats import Chats
from server.services.delivery import Delivery
from server.services.files import Files
from server.services.health import Health
from server.services.history import History
from server.services.inactive import InactivePeople
from server.services.limits import Limits
from server.services.lost_queues import LostQueues
from server.services.messages import Messages
from server.services.offline import OfflineQueue
from server.services.peers import Peers
from server.services.people import People
from server.services.pictures import Pictures
from server.services.presence import Presence
from server.services.pushes import Pushes
from server.services.receipts import Receipts
from server.services.recovery import Recovery, RoomsInFlight
from server.services.room_log import RoomLog
from server.services.rooms import Rooms
from server.services.search import Search
from server.services.typing import Typing
from server.services.unconfirmed import Unconfirmed
from server.services.upgrades import Upgrades
from server.services.uploads import Uploads
from server.services.user_index import UserIndex
from server.storage.stores import Stores
from server.tokens import Passwords, Tokens
from server.unsent import Unsent

log = logging.getLogger(__name__)

# Writing marks delays messages: 50 take about 40 ms on the embedded store.
MAX_MARKS: Final = 50
# The ends of rooms are derived from the log: storing them late costs a little reading after a crash, nothing else.
SAVE_INTERVAL: Final = 1.0
RETRY_INTERVAL: Final = 1.0
INACTIVE_INTERVAL: Final = 0.25
# After a crash, what was confirmed since the last look is handed over once more.
SETTLE_INTERVAL: Final = 1.0
# At shutdown, saving the ends of rooms gets at least this many seconds.
LEAST_TO_SAVE: Final = 1.0
# A lease survives two renewals that fail.
RENEWALS_PER_LEASE: Final = 3


class Context:
    """Everything that handlers may use, as typed attributes."""

    def __init__(self, settings: Settings, mongodb_uri: str, redis_url: str) -> None:
        self.settings = settings
        self._stores = Stores(settings, mongodb_uri, redis_url)
        self._index = UserIndex(self._stores.users, self._stores.search_terms)
        self._upgrades = Upgrades(self._stores.identity, self._stores.users, self._index)
        self._passwords = Passwords(is_limited=settings.limits.enabled)
        self._pictures = Pictures(is_limited=settings.limits.enabled)
        self._periodic = PeriodicWork()
        self._others: set[str] = set()
        # How often Redis had been away when its queues were last looked at.
        self._losses = 0
        self._looking = asyncio.Lock()
        self._build()

    def _build(self) -> None:
        settings, stores = self.settings, self._stores
        self.realtime = Realtime(
            ping_interval=settings.socket.ping_interval,
            ping_timeout=settings.socket.ping_timeout,
            max_payload=settings.server.max_payload,
            unsent=Unsent(per_user=settings.server.max_unsent_per_user, in_all=settings.server.max_unsent),
        )
        self.health = Health(stores.database, stores.redis)
        online = OnlineUsers()
        self.limits = Limits(settings.limits, stores.counters)
        self.uploads = Uploads(
            settings.uploads, stores.spool, stores.blobs, stores.upload_records, self._pictures, self.limits
        )
        self.files = Files(stores.upload_records, stores.blobs, stores.users)
        self.people = People(stores.users, self._index, online, self.files, self.limits)
        self.search = Search(stores.search_terms, self.people, self.limits)
        self.accounts = Accounts(
            users=stores.users,
            sessions=stores.sessions,
            tokens=Tokens(read_secret(settings), settings.auth.access_ttl),
            passwords=self._passwords,
            limits=self.limits,
            people=self.people,
            refresh_ttl=settings.auth.refresh_ttl,
            refresh_grace=settings.auth.refresh_grace,
            user_types=settings.auth.user_types,
            end_session=lambda session_id: self.realtime.end_session(session_id, Unauthorized("The session has ended")),
        )
        self.rooms = Rooms(
            stores.rooms,
            stores.members,
            stores.messages,
            self.people,
            self.limits,
            Peers(stores.members, max_cached=settings.rooms.max_cached_people),
            max_cached=settings.rooms.max_cached,
            room_key=lambda: stores.identity.known.room_key,
        )
        self.chats = Chats(self.rooms, self.people, online, self.realtime, stores.identity)
        self._marks: Batcher[Member] = Batcher(stores.members.save_marks, max_batch=MAX_MARKS)
        crash = CrashPoints(os.environ)
        self.pushes = Pushes(stores.offline_queues, lambda user_ids: self.offline.hand_over_to(user_ids), crash)
        intake = Intake(stores.database)
        self._inactive = InactivePeople(
            self.people, self.realtime.user_ids, lambda: intake.quiet_seconds, self._end_inactive
        )
        self.receipts = Receipts(self.rooms, intake, stores.messages, self._marks, self.realtime)
        self.offline = OfflineQueue(
            stores.offline_queues,
            self.pushes,
            self.rooms,
            stores.messages,
            self.people,
            self.receipts,
            self.realtime,
            crash,
            retention=settings.offline_queue.retention,
        )
        self.typing = Typing(self.rooms, self.realtime, timeout=settings.typing.timeout)
        self.unconfirmed = Unconfirmed(self.realtime, self.pushes)
        self._delivery = Delivery(self.realtime, self.pushes, self.unconfirmed, self.typing.end)
        self._in_flight = RoomsInFlight(stores.unsettled_rooms)
        self._recovery = Recovery(
            stores.unsettled_rooms,
            self._in_flight,
            self.rooms,
            self.people,
            self._delivery.deliver,
            self.pushes.wait_written,
        )
        self._lost_queues = LostQueues(
            stores.offline_queues,
            stores.rooms,
            self.rooms,
            stores.messages,
            self.realtime,
            self.pushes,
            stores.identity,
            retention=settings.offline_queue.retention,
            max_messages=settings.offline_queue.max_messages,
        )
        self._log = RoomLog(
            intake,
            stores.messages,
            self.rooms.read_tail,
            crash.end_before(AFTER_ACK, self._delivery.deliver),
            self._in_flight,
            crash,
            max_batch=settings.messages.max_batch,
        )
        self.messages = Messages(
            self.rooms, intake, self.people, self.limits, self.files, max_length=settings.messages.max_length
        )
        self.history = History(self.rooms, self.people, stores.messages, stores.identity, self.limits)
        self.presence = Presence(
            online,
            stores.presence_leases,
            self.rooms,
            self.people,
            self.realtime,
            grace=settings.presence.grace,
            lease=settings.presence.lease,
        )

    async def open(self) -> None:
        """Prepare the collections, then start the writer and the periodic work."""
        await self._stores.open()
        await self._upgrades.run()
        await self._index.settle_all()
        await self._recovery.mend()
        if self._upgrades.has_moved:
            await do_quietly(self._lost_queues.adopt)
        await do_quietly(self._look_after_queues)
        self._log.start()
        self.realtime.start()
        settings, every = self.settings, self._periodic.start
        every(settings.sweep.interval, self.sweep)
        every(settings.sweep.interval, self._index.settle_all)
        every(settings.presence.lease / RENEWALS_PER_LEASE, self.presence.renew_leases)
        every(SETTLE_INTERVAL, self._settle_confirmed)
        every(SAVE_INTERVAL, self.save_ends)
        every(RETRY_INTERVAL, self.offline.retry_postponed)
        every(RETRY_INTERVAL, self._look_after_lost)
        every(INACTIVE_INTERVAL, self._inactive.look)
        await do_quietly(self.presence.open)
        await do_quietly(self.sweep)

    async def sweep(self) -> None:
        """Expire offline queues, presence leases and uploads that nothing uses; look for other servers."""
        # One that cannot go on while its store is away keeps no other from its work.
        expiring = self.offline.sweep, self.presence.sweep, self._stores.spool.sweep, self.files.sweep
        for work in (self._look_after_queues, *expiring, self._look_around):
            await do_quietly(work)

    async def save_ends(self) -> None:
        """Store the rooms' ends and marks, and forget those that rest."""
        await self.rooms.save_changed()
        await self._in_flight.leave_settled()

    async def drain(self) -> None:
        """Store and deliver what is in flight, within the time for stopping, then tell the sockets and end them."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.server.shutdown_timeout
        await self._periodic.stop()
        await do_until(deadline, self._finish_work)
        await self.realtime.close(Unavailable("The server is stopping"))
        self.presence.close()
        await do_until(max(deadline, loop.time() + LEAST_TO_SAVE), self._queue_unconfirmed)
        # What is not saved is noted, and mended at the next start.
        await do_until(max(deadline, loop.time() + LEAST_TO_SAVE), self._save_all)

    async def close(self) -> None:
        """Let go of the stores."""
        await self._periodic.stop()
        self._passwords.close()
        await self.uploads.wait_empty()
        await self._pictures.close()
        await self._stores.close()

    async def _end_inactive(self, user_id: str) -> None:
        await self.realtime.end(self.realtime.connections_of(user_id), Unauthorized("The account is not active"))

    async def _look_after_lost(self) -> None:
        """Redis may have come back empty."""
        if self._stores.redis.losses != self._losses:
            await self._look_after_queues()

    async def _look_after_queues(self) -> None:
        losses = self._stores.redis.losses
        async with self._looking:
            await self._lost_queues.look()
        if self._stores.redis.is_available:
            self._losses = losses

    async def _look_around(self) -> None:
        others = await self._stores.servers.look_around()
        if others - self._others:
            log.error("another server runs on this database: both show stale rooms and history; end all but one")
        self._others |= others

    async def _settle_confirmed(self) -> None:
        self.unconfirmed.look()

    async def _queue_unconfirmed(self) -> None:
        await self.pushes.wait_written()
        self.unconfirmed.look()

    async def _save_all(self) -> None:
        await self.rooms.save_all()
        await self._in_flight.leave_settled()

    async def _finish_work(self) -> None:
        await self._log.close()
        await self.pushes.wait_written()
        await self._marks.wait_empty()


@contextlib.asynccontextmanager
async def open_context(settings: Settings) -> AsyncIterator[Context]:
    """A running context on its stores; everything is closed at the end, also when opening fails half-way."""
    children = EmbeddedStores()
    addresses = await children.start(settings)
    try:
        context = Context(settings, addresses.mongodb_uri, addresses.redis_url)
        try:
            await _open(context)
            yield context
        finally:
            await context.close()
    finally:
        await children.stop()


async def _open(context: Context) -> None:
    try:
        await context.open()
    except Unusable as error:
        raise StartFailed(error.detail) from error
    except Unavailable as error:
        raise StartFailed("the database does not answer") from error
    except OSError as error:
        raise StartFailed.of(error) from error


def read_secret(settings: Settings) -> str:
    """The configured signing key, or the one made at the first start. Raises `StartFailed` where that is no key."""
    try:
        return settings.auth.secret or read_or_make_secret(Path(settings.data_dir) / "jwt_secret")
    except (OSError, ValueError) as error:
        raise StartFailed.of(error) from error
