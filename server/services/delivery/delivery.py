"""Delivery of stored messages: live to connected sockets, else to the offline queue. A consumer of the log."""

import logging
from collections import deque
from collections.abc import Callable, Sequence

from server.models import DELIVERY, Message
from server.protocol import MESSAGE_NEW
from server.realtime.fan_out import FanOut
from server.realtime.frames import event_frame
from server.room_state import RoomState, StoredMessage
from server.services.delivery.offline_queue_writer import OfflineQueueWriter
from server.services.delivery.ports import People
from server.services.delivery.unconfirmed import Unconfirmed
from server.storage.mongo.messages import MessageStore
from server.storage.redis.offline_queues import refer
from server.views import name_of, view_message

log = logging.getLogger(__name__)


class _Unwritten:
    """A message with offline-queue writes that are not done. It pins its room.

    `seq` is the position that is reached once they are: that message, or a later one that needed no write.
    """

    __slots__ = ("seq", "writes")

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.writes = 0


class Delivery:
    """Delivers stored messages in log order. Failures are logged and never reach the sender.

    Its cursor in a room moves past messages that are on the offline queue or confirmed by the connections they went to.
    """

    name = DELIVERY

    def __init__(
        self,
        fan_out: FanOut,
        offline_writer: OfflineQueueWriter,
        unconfirmed: Unconfirmed,
        messages: MessageStore,
        people: People,
        end_typing: Callable[[str, str], None],
        announce: Callable[[StoredMessage], None],
    ) -> None:
        self._fan_out = fan_out
        self._offline_writer = offline_writer
        self._unconfirmed = unconfirmed
        self._messages = messages
        self._people = people
        self._end_typing = end_typing
        self._announce = announce
        self._unwritten: dict[str, deque[_Unwritten]] = {}

    def take(self, stored: Sequence[StoredMessage]) -> None:
        """Send each message to the connections of its receivers, or enqueue it for them."""
        for one in stored:
            self._deliver(one)

    def note_loaded(self, room: RoomState) -> None:
        """If nothing is in flight here, the process that stored the messages has delivered them."""
        if room.pins == 0:
            room.advance(DELIVERY, room.last_seq)

    async def resume(self, room: RoomState) -> set[str]:
        """Deliver what is after the cursor again. Returns the receivers who may not have got it.

        Returns once it is queued or Redis refuses writes. Raises `Unavailable`.
        """
        delivered = {user_id: member.delivered for user_id, member in room.members.items()}
        messages = await self._messages.read_range(room.id, room.cursor(DELIVERY), room.last_seq)
        senders = await self._people.get_many({message.sender_id for message in messages})
        self.take([StoredMessage(room, message, name_of(senders.get(message.sender_id))) for message in messages])
        await self._offline_writer.wait_written()
        return {
            user_id
            for message in messages
            for user_id in room.receivers(message)
            if room.keeps_queues and message.notice is None and delivered.get(user_id, 0) < message.seq
        }

    def _deliver(self, stored: StoredMessage) -> None:
        room, message, sender_name = stored
        progress = _Unwritten(message.seq)
        try:
            self._end_typing(message.sender_id, room.id)
            if message.notice is not None:
                # Those who come in hear of the room before its message.
                self._announce(stored)
            frame = event_frame(MESSAGE_NEW, view_message(message, sender_name, is_read=False))
            # The sender's own devices; senders need no offline copy.
            if message.sender_id in room.members:
                self._fan_out.send((message.sender_id,), frame)
            receivers = room.receivers(message)
            delivered = self._fan_out.deliver(receivers, frame)
            # Others get what they missed from history and `sync`.
            is_queued = room.keeps_queues and message.notice is None
            for user_id in delivered.missed if is_queued else ():
                if self._is_undelivered(room, message, user_id):
                    reference = refer(room.id, message.seq, len(frame.wire))
                    written = self._offline_writer.enqueue(user_id, reference, message.sent_at)
                    if not written.done():
                        progress.writes += 1
                        written.add_done_callback(lambda _done: self._finish_write(room, progress))
            if is_queued and len(delivered.missed) < len(receivers):
                self._unconfirmed.add(room, message, delivered.number)
        except Exception:
            log.exception("live delivery failed room=%s seq=%d", room.id, message.seq)
        if progress.writes:
            room.pins += 1
            self._unwritten.setdefault(room.id, deque()).append(progress)
        elif room.id in self._unwritten:
            # Merged into the message before, so that live messages do not pile up while Redis is unavailable.
            self._unwritten[room.id][-1].seq = message.seq
        else:
            self._unconfirmed.note_queued(room, message.seq)

    def _is_undelivered(self, room: RoomState, message: Message, user_id: str) -> bool:
        """False for a message that recovery found and that the user got before the crash."""
        return room.members[user_id].delivered < message.seq

    def _finish_write(self, room: RoomState, progress: _Unwritten) -> None:
        """Finish messages in room order, so that the cursor skips none."""
        progress.writes -= 1
        unwritten = self._unwritten[room.id]
        while unwritten and not unwritten[0].writes:
            self._unconfirmed.note_queued(room, unwritten.popleft().seq)
            room.pins -= 1
        if not unwritten:
            del self._unwritten[room.id]
