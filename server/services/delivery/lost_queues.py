"""Refills offline queues from the log after Redis lost them."""

import asyncio
import logging
import time
from datetime import datetime, timedelta
from typing import Final

from server.models import Message, now
from server.realtime.hub import Hub
from server.room_state import RoomState
from server.services.delivery.offline_queue_writer import OfflineQueueWriter
from server.services.delivery.ports import RoomLoader, RoomSaver
from server.storage.mongo.identity import IdentityStore
from server.storage.mongo.messages import MessageStore
from server.storage.mongo.rooms import RoomStore
from server.storage.redis.offline_queues import OfflineQueues, refer

log = logging.getLogger(__name__)

ROOMS_AT_ONCE: Final = 100
# Epoch of the queues during a refill, or after a refill that did not finish.
UNFINISHED: Final = ""


class LostQueues:
    """Compares the epoch in Redis with that of the database. They differ if either was reset."""

    def __init__(
        self,
        queues: OfflineQueues,
        room_store: RoomStore,
        loader: RoomLoader,
        saver: RoomSaver,
        messages: MessageStore,
        hub: Hub,
        offline_writer: OfflineQueueWriter,
        identities: IdentityStore,
        *,
        retention: float,
        max_messages: int,
    ) -> None:
        self._queues = queues
        self._room_store = room_store
        self._loader = loader
        self._saver = saver
        self._messages = messages
        self._hub = hub
        self._offline_writer = offline_writer
        self._identities = identities
        self.set_retention(retention)
        self._max_messages = max_messages
        self._refilling = asyncio.Lock()
        # How often Redis had been lost at the last refill.
        self._losses = 0

    def is_current(self, epoch: str | None) -> bool:
        """Whether queues of this epoch are complete. Others must not be flushed: a client that confirmed a new message
        would count as having got the older ones that are missing.
        """
        return epoch == self._identities.known.epoch

    def set_retention(self, seconds: float) -> None:
        """From now on entries live for so long."""
        self._retention = timedelta(seconds=seconds)

    async def adopt(self) -> None:
        """Set the epoch of queues that have none: older versions did not store it. Raises `Unavailable`."""
        if await self._queues.read_epoch() is None:
            await self._queues.set_epoch(self._identities.known.epoch)

    async def refill_if_lost(self) -> None:
        """Refill the queues if they are lost, or wait for a refill that runs. Call at the start and periodically.

        A message that was delivered live but not acknowledged may be sent again. Raises `Unavailable`; the next call
        starts an unfinished refill again.
        """
        async with self._refilling:
            losses = self._queues.losses
            await self._refill_if_lost()
            if self._queues.is_available:
                self._losses = losses

    async def refill_after_loss(self) -> None:
        """As `refill_if_lost`, if Redis was unavailable since: it may have come back empty."""
        if self._queues.losses != self._losses:
            await self.refill_if_lost()

    async def _refill_if_lost(self) -> None:
        if not self._queues.is_available:
            return
        epoch, found = self._identities.known.epoch, await self._queues.read_epoch()
        if self.is_current(found):
            return
        if found:
            # Sequence numbers of another epoch mean other messages. Queues of an unfinished refill are kept: they also
            # have new messages, and duplicates are dropped when flushed.
            await self._queues.clear()
        # A full Redis refuses this write. Without it, every call would buffer the whole refill in memory.
        await self._queues.set_epoch(UNFINISHED)
        begun = time.monotonic()
        messages, users = await self._refill()
        await self._queues.set_epoch(epoch)
        if messages:
            log.warning(
                "offline queues lost, refilled from the log messages=%d users=%d seconds=%.1f",
                messages,
                users,
                time.monotonic() - begun,
            )

    async def _refill(self) -> tuple[int, int]:
        """Returns the number of messages and of users."""
        since = now() - self._retention
        # `find_grown_since` looks at the stored ends.
        await self._saver.save_all()
        room_ids = await self._room_store.find_grown_since(since)
        messages, users = 0, set[str]()
        for start in range(0, len(room_ids), ROOMS_AT_ONCE):
            pinned = await self._loader.pin_many(room_ids[start : start + ROOMS_AT_ONCE])
            try:
                for room in pinned:
                    undelivered = await self._find_undelivered(room, since)
                    messages += len({message.seq for message, _ in undelivered})
                    users.update(user_id for _, user_id in undelivered)
                    for message, user_id in undelivered:
                        _ = self._offline_writer.enqueue(user_id, refer(room.id, message.seq), message.sent_at)
                    # Unwritten messages are in memory.
                    await self._offline_writer.wait_written()
            finally:
                for room in pinned:
                    room.pins -= 1
        return messages, len(users)

    async def _find_undelivered(self, room: RoomState, since: datetime) -> list[tuple[Message, str]]:
        """Undelivered messages with their receivers, oldest first."""
        if not room.keeps_queues:
            return []
        delivered = {user_id: member.delivered for user_id, member in room.members.items()}
        after = max(min(delivered.values(), default=room.last_seq), room.last_seq - self._max_messages)
        return [
            (message, user_id)
            for message in await self._messages.read_range(room.id, after, room.last_seq)
            if message.sent_at > since and message.notice is None
            for user_id in room.receivers(message)
            if delivered[user_id] < message.seq and self._was_offline(user_id, message)
        ]

    def _was_offline(self, user_id: str, message: Message) -> bool:
        """Whether none of the user's open connections is old enough to have got it live."""
        return all(connection.opened_at >= message.sent_at for connection in self._hub.connections_of(user_id))
