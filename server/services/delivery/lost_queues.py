"""Offline queues that Redis has lost are made again from the log: what its people have not been delivered."""

import logging
import time
from datetime import datetime, timedelta
from typing import Final

from server.models import Message, now
from server.realtime.hub import Hub
from server.room_state import RoomState
from server.services.delivery.offline_queue_writer import OfflineQueueWriter
from server.services.delivery.ports import Rooms
from server.storage.mongo.identity import IdentityStore
from server.storage.mongo.messages import MessageStore
from server.storage.mongo.rooms import RoomStore
from server.storage.redis.offline_queues import OfflineQueues, refer

log = logging.getLogger(__name__)

ROOMS_AT_ONCE: Final = 100
# The name of no history: the queues are being made again, or were when the server ended.
UNFINISHED: Final = ""


class LostQueues:
    """The queues say to which history they belong; where they do not, Redis has begun anew, or the database has."""

    def __init__(
        self,
        queues: OfflineQueues,
        room_store: RoomStore,
        rooms: Rooms,
        messages: MessageStore,
        sockets: Hub,
        offline_writer: OfflineQueueWriter,
        identities: IdentityStore,
        *,
        retention: float,
        max_messages: int,
    ) -> None:
        self._queues = queues
        self._room_store = room_store
        self._rooms = rooms
        self._messages = messages
        self._sockets = sockets
        self._offline_writer = offline_writer
        self._identities = identities
        self._retention = timedelta(seconds=retention)
        self._max_messages = max_messages

    async def adopt(self) -> None:
        """Take the queues that are there for those of this history: a server of before did not say. Raises
        `Unavailable`."""
        if await self._queues.read_epoch() is None:
            await self._queues.set_epoch(self._identities.known.epoch)

    async def look(self) -> None:
        """To be called at the start and now and then. Makes the queues again where they are lost, and says so.

        A message that was delivered live, and that nobody has said to be delivered, may come once more. Raises
        `Unavailable`; what is not finished is done at the next call.
        """
        if not self._queues.is_available:
            return
        epoch, found = self._identities.known.epoch, await self._queues.read_epoch()
        if found == epoch:
            return
        if found:
            # Of a history that has ended, whose numbers mean other messages now. What an unfinished refill left stays:
            # messages that came since are on the queues too, and what is there twice is handed over once.
            await self._queues.clear()
        # A Redis that is full refuses this: what is owed would wait in memory, and once more at every call.
        await self._queues.set_epoch(UNFINISHED)
        begun = time.monotonic()
        messages, people = await self._make()
        await self._queues.set_epoch(epoch)
        if messages:
            log.warning(
                "the offline queues were lost: %d messages queued again for %d people, from the log, in %.1f s",
                messages,
                people,
                time.monotonic() - begun,
            )

    async def _make(self) -> tuple[int, int]:
        """Of how many messages, for how many people."""
        since = now() - self._retention
        # Rooms are found by their stored ends.
        await self._rooms.save_all()
        room_ids = await self._room_store.find_active_since(since)
        messages, people = 0, set[str]()
        for start in range(0, len(room_ids), ROOMS_AT_ONCE):
            pinned = await self._rooms.pin_many(room_ids[start : start + ROOMS_AT_ONCE])
            try:
                for room in pinned:
                    owed = await self._owed(room, since)
                    messages += len({message.seq for message, _ in owed})
                    people.update(user_id for _, user_id in owed)
                    for message, user_id in owed:
                        _ = self._offline_writer.enqueue(user_id, refer(room.id, message.seq), message.sent_at)
                    # What waits to be queued is in memory.
                    await self._offline_writer.wait_written()
            finally:
                for room in pinned:
                    room.pins -= 1
        return messages, len(people)

    async def _owed(self, room: RoomState, since: datetime) -> list[tuple[Message, str]]:
        """Each message that somebody has not been delivered, with whom, oldest first."""
        behind = {user_id: member.delivered for user_id, member in room.members.items()}
        after = max(min(behind.values()), room.last_seq - self._max_messages)
        return [
            (message, user_id)
            for message in await self._messages.read_range(room.id, after, room.last_seq)
            if message.sent_at > since
            for user_id in room.others(message.sender_id)
            if behind[user_id] < message.seq and self._was_away(user_id, message)
        ]

    def _was_away(self, user_id: str, message: Message) -> bool:
        """Whether none of the user's sockets was there to be sent it live."""
        return all(connection.opened_at >= message.sent_at for connection in self._sockets.connections_of(user_id))
