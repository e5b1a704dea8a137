"""The composition root: stores, then services, and the order in which they start."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from typing import Final

from server.blocks import BlockIndex
from server.concurrency.periodic import PeriodicWork, do_quietly
from server.config.secret_files import read_signing_secret
from server.config.settings import Settings
from server.embedded import EmbeddedStores, StartFailed
from server.errors import Unauthorized, Unavailable, Unusable
from server.failpoints import Failpoints
from server.lifecycle import Lifecycle, Part
from server.log.output import set_logging
from server.metrics import Metrics
from server.readings import readings_of
from server.realtime.hub import Hub
from server.realtime.unsent import Unsent
from server.room_state import RoomState
from server.services.accounts.build import build_accounts
from server.services.accounts.contact import Contact
from server.services.accounts.inactive import InactivePeople
from server.services.delivery.build import build_delivery
from server.services.export.export import Export
from server.services.health import Health
from server.services.limits import Limits
from server.services.other_servers import OtherServers
from server.services.presence.build import build_presence
from server.services.presence.online import OnlineUsers
from server.services.room_log.background_consumer import LogConsumer
from server.services.room_log.build import build_room_log
from server.services.room_log.notices import Notices
from server.services.room_log.write_queue import WriteQueue
from server.services.rooms.build import build_rooms
from server.services.safety.build import build_safety
from server.services.scrapers import Scrapers
from server.services.search.build import build_search
from server.services.search.index import UserIndex
from server.services.upgrades import Upgrades
from server.services.uploads.build import build_uploads
from server.storage.stores import Stores

# Ends and cursors can be derived from the log: storing them late only costs some reading after a crash.
SAVE_INTERVAL: Final = 1.0
LAG_INTERVAL: Final = 0.25
LAG_STEP: Final = 0.01
RETRY_INTERVAL: Final = 1.0
INACTIVE_INTERVAL: Final = 0.1
# After a crash, messages confirmed since the last run are delivered again.
ADVANCE_INTERVAL: Final = 1.0
# At shutdown, saving ends and cursors gets at least this many seconds.
LEAST_TO_SAVE: Final = 1.0
# A lease survives two failed renewals.
RENEWALS_PER_LEASE: Final = 3


class Context:
    """Everything that handlers may use, as typed attributes."""

    def __init__(
        self, settings: Settings, mongodb_uri: str, redis_url: str, consumers: Sequence[LogConsumer] = ()
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._stores = stores = Stores(settings, mongodb_uri, redis_url, self.metrics)
        self._periodic = PeriodicWork()
        self.hub = Hub(Unsent(per_user=settings.server.max_unsent_per_user, total=settings.server.max_unsent))
        self.health = Health(stores.database, stores.redis)
        self.scrapers = Scrapers(settings.metrics.allow, settings.metrics.token)
        self.limits = Limits(settings.limits, stores.counters)
        blocks = BlockIndex()
        failpoints = Failpoints(os.environ)
        online = OnlineUsers()
        write_queue = WriteQueue(stores.database)
        self.uploads, self.files, self._freed, self._images = build_uploads(settings, stores, self.limits)
        self._index = UserIndex(stores.users, stores.search_terms)
        self._contact = Contact(
            settings.profiles.contact, lambda user_id, others: self.rooms.find_sharing(user_id, others), blocks
        )
        accounts = build_accounts(
            settings,
            read_secret(settings),
            stores,
            self._index,
            online,
            self.files,
            self.limits,
            lambda session_id: self.hub.end_session(session_id, Unauthorized("The session has ended")),
            self._end_inactive,
            self._leave,
            blocks,
            self._contact,
        )
        self.accounts, self.authenticators, self.people = accounts.accounts, accounts.authenticators, accounts.profiles
        self._configure_accounts = accounts.configure
        self.own_sessions, self.deletion = accounts.own_sessions, accounts.deletion
        self.directory, self._passwords, self._key_set = accounts.directory, accounts.passwords, accounts.key_set
        self.search = build_search(stores, self.people, self.limits, blocks, self._contact)
        rooms = build_rooms(
            settings,
            stores,
            self.hub,
            self.people,
            online,
            write_queue,
            self.limits,
            Notices(write_queue),
            self.files,
            self._note_loaded,
            blocks,
        )
        self.rooms, self.room_loader, self.room_saver, self._ended_rooms = (
            rooms.rooms,
            rooms.loader,
            rooms.saver,
            rooms.ended,
        )
        self.chat_list, self.groups, self.chat_settings = rooms.chat_list, rooms.groups, rooms.chat_settings
        self.member_list, self.open_rooms = rooms.member_list, rooms.open_rooms
        self.history, self.sync = rooms.history, rooms.sync
        self.receipts, self._marks = rooms.receipts, rooms.marks
        self.presence, self.typing, separation = build_presence(
            settings, stores, self.hub, online, self.rooms, self.people, blocks
        )
        self.blocking, self.reports = build_safety(stores, blocks, self.people, separation, self.hub, rooms.access)
        delivery, self.offline_queue, self.offline_writer, self.unconfirmed, self._lost_queues = build_delivery(
            settings,
            stores,
            self.hub,
            self.rooms,
            self.room_loader,
            self.room_saver,
            self.people,
            rooms.quotes,
            self.receipts,
            self.typing.end,
            rooms.events.announce,
            failpoints,
        )
        room_log = build_room_log(
            settings,
            stores,
            write_queue,
            self.rooms,
            self.room_loader,
            self.room_saver,
            self.people,
            rooms.access,
            rooms.quotes,
            self.files,
            self.limits,
            delivery,
            consumers,
            failpoints,
            self.metrics.note_batch,
        )
        self.messages, self.changes, self._erasure = room_log.messages, room_log.changes, room_log.erasure
        self._log, self._change_writer = room_log.writer, room_log.change_writer
        self._consumers, self._in_flight, self._recovery = room_log.consumers, room_log.in_flight, room_log.recovery
        self.export = Export(
            self.people,
            self.own_sessions,
            self.blocking,
            self.chat_list,
            self.rooms,
            stores.messages,
            stores.reports,
            self.files,
            self.limits,
        )
        self._upgrades = Upgrades(
            stores.identity, stores.users, self._index, stores.rooms, stores.members, stores.messages, self.files
        )
        self._inactive = InactivePeople(
            self.people, self.hub.user_ids, lambda: write_queue.quiet_seconds, self._end_inactive
        )
        self._other_servers = OtherServers(stores.servers)
        self._lifecycle = Lifecycle(self._parts())
        self.metrics.readings = readings_of(
            self.hub,
            self.room_loader,
            self._in_flight,
            self._consumers.names,
            write_queue,
            self.offline_writer,
            stores,
        )

    def _parts(self) -> list[Part]:
        """In the order of their start. They are drained and stopped in reverse."""
        stores = self._stores
        return [
            Part("stores", start=stores.open, stop=stores.close),
            Part("images", stop=self._images.close),
            Part("uploads", stop=self.uploads.wait_empty),
            Part("passwords", stop=self._passwords.close),
            Part("upgrades", start=self._upgrades.run),
            Part("blocks", start=self.blocking.open),
            Part("search index", start=self._index.settle_all),
            # What is not saved stays in the in-flight journal and is recovered at the next start.
            Part("room ends", drain=self._save_all_ends, least=LEAST_TO_SAVE),
            Part("recovery", start=self._recovery.recover),
            Part("offline queues", start=self._open_queues),
            Part("log consumers", start=self._consumers.start, drain=self._consumers.close, stop=self._consumers.close),
            Part("unconfirmed deliveries", drain=self._queue_unconfirmed, least=LEAST_TO_SAVE),
            Part("presence", drain=self.presence.close),
            Part("sockets", drain=lambda: self.hub.close(Unavailable("The server is stopping"))),
            Part("room log", start=self._log.start, drain=self._finish_writes, least=0.0),
            Part("changes", start=self._change_writer.start, drain=self._change_writer.close, least=0.0),
            Part("periodic work", start=self._start_periodic, drain=self._periodic.stop, stop=self._periodic.stop),
            Part("first sweep", start=self._sweep_first),
        ]

    async def _start_periodic(self) -> None:
        settings, every = self.settings, self._periodic.start
        every(settings.sweep.interval, self.sweep)
        every(settings.sweep.interval, self._index.settle_all)
        every(settings.presence.lease / RENEWALS_PER_LEASE, self.presence.renew_leases)
        every(ADVANCE_INTERVAL, self._advance_delivered)
        every(SAVE_INTERVAL, self.save_ends)
        every(LAG_INTERVAL, self._measure_lag)
        every(RETRY_INTERVAL, self.offline_queue.retry_postponed)
        every(RETRY_INTERVAL, self._lost_queues.refill_after_loss)
        every(INACTIVE_INTERVAL, self._inactive.disconnect_inactive)
        if self._key_set is not None:
            every(settings.auth.external.jwks_refresh, self._key_set.refresh)

    def configure(self, settings: Settings) -> None:
        """Continue with other settings, which differ only in what can change live. Raises `OSError` for a key file."""
        self._configure_accounts(settings.auth)
        self.settings = settings
        self.limits.configure(settings.limits)
        self.scrapers.configure(settings.metrics.allow, settings.metrics.token)
        self.offline_queue.set_retention(settings.offline_queue.retention)
        self._lost_queues.set_retention(settings.offline_queue.retention)
        self.changes.set_edit_window(settings.messages.edit_window)
        self._contact.set_rule(settings.profiles.contact)
        set_logging(settings.log.level, settings.log.format)

    async def open(self) -> None:
        """Start all parts. Raises what a part raises; `close` is to be called then too."""
        await self._lifecycle.start()

    async def drain(self) -> None:
        """Store and deliver pending messages within `server.shutdown_timeout`, then notify and close the sockets."""
        await self._lifecycle.drain(self.settings.server.shutdown_timeout)

    async def close(self) -> None:
        """Stop the periodic work and close the stores."""
        await self._lifecycle.stop()

    async def sweep(self) -> None:
        """Refill lost offline queues, expire offline queues, presence leases and unused uploads, find other servers."""
        # Each runs even if another fails because its store is unavailable.
        for work in (
            self._lost_queues.refill_if_lost,
            self.offline_queue.sweep,
            self.presence.sweep,
            self._stores.spool.sweep,
            self._ended_rooms.purge,
            self._freed.sweep,
            self.files.sweep,
            self._other_servers.look,
            self.blocking.follow,
            self.deletion.resume,
        ):
            await do_quietly(work)

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + LAG_STEP
        await asyncio.sleep(LAG_STEP)
        self.metrics.loop_lag.observe(max(0.0, loop.time() - due))

    async def save_ends(self) -> None:
        """Store changed ends, cursors and marks, and trim the in-flight journal."""
        await self.room_saver.save_changed()
        await self._in_flight.leave_idle()

    async def _save_all_ends(self) -> None:
        await self.room_saver.save_all()
        await self._in_flight.leave_idle()

    async def _open_queues(self) -> None:
        if self._upgrades.has_moved:
            await do_quietly(self._lost_queues.adopt)
        await do_quietly(self._lost_queues.refill_if_lost)

    async def _sweep_first(self) -> None:
        await do_quietly(self.presence.open)
        await self.sweep()

    async def _advance_delivered(self) -> None:
        self.unconfirmed.advance()

    async def _queue_unconfirmed(self) -> None:
        await self.offline_writer.wait_written()
        self.unconfirmed.advance()

    async def _finish_writes(self) -> None:
        await self._log.close()
        await self.offline_writer.wait_written()
        await self._marks.wait_empty()

    def _note_loaded(self, room: RoomState) -> None:
        self._consumers.note_loaded(room)

    async def _leave(self, user_id: str) -> None:
        """What other subjects have of a user whose account is deleted goes too."""
        await self.blocking.forget(user_id)
        if self.settings.profiles.deleted_messages == "delete":
            await self._erasure.erase(user_id)
        await self.groups.leave_all(user_id)

    async def _end_inactive(self, user_id: str) -> None:
        await self.hub.end(self.hub.connections_of(user_id), Unauthorized("The account is not active"))


@contextlib.asynccontextmanager
async def open_context(settings: Settings, consumers: Sequence[LogConsumer] = ()) -> AsyncIterator[Context]:
    """A running context; everything is closed at the end, also if opening fails."""
    children = EmbeddedStores()
    addresses = await children.start(settings)
    try:
        context = Context(settings, addresses.mongodb_uri, addresses.redis_url, consumers)
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
    """The configured signing key, or the one generated at the first start. Raises `StartFailed` if it is unusable."""
    try:
        return read_signing_secret(settings)
    except (OSError, ValueError) as error:
        raise StartFailed.of(error) from error
