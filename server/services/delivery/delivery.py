"""Delivery of stored messages: live to connected sockets, else to the offline queue."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from server.models import Message
from server.protocol import MESSAGE_NEW, MessageView
from server.realtime.frames import event_frame
from server.realtime.hub import Hub
from server.room_state import RoomState, StoredMessage
from server.services.delivery.offline_queue_writer import OfflineQueueWriter
from server.services.delivery.unconfirmed import Unconfirmed
from server.storage.redis.offline_queues import refer
from server.views import view_message

log = logging.getLogger(__name__)

# Longer payloads are queued as references to the log, to save memory in Redis and, while Redis is unavailable, here.
MAX_INLINE_BYTES: Final = 4096


class _Unwritten:
    """A message with offline-queue writes that are not done.

    `message` is the delivered position once they are: that message, or a later one that needed no write.
    """

    __slots__ = ("message", "writes")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.writes = 0


class Delivery:
    """Delivers stored messages in log order. Failures are logged and never reach the sender."""

    def __init__(
        self,
        hub: Hub,
        offline_writer: OfflineQueueWriter,
        unconfirmed: Unconfirmed,
        end_typing: Callable[[str, str], None],
    ) -> None:
        self._hub = hub
        self._offline_writer = offline_writer
        self._unconfirmed = unconfirmed
        self._end_typing = end_typing
        self._unwritten: dict[str, deque[_Unwritten]] = {}

    def deliver(self, stored: Sequence[StoredMessage]) -> None:
        """Each message comes with one pin on its room, which is unpinned once the message is delivered and queued."""
        for one in stored:
            self._deliver_one(one)

    def _deliver_one(self, stored: StoredMessage) -> None:
        room, message, sender_name = stored
        progress = _Unwritten(message)
        try:
            self._end_typing(message.sender_id, room.id)
            view = view_message(message, sender_name, is_read=False)
            frame = event_frame(MESSAGE_NEW, view)
            number, is_sent = self._hub.next_delivery(), False
            for user_id in room.user_ids:
                if user_id == message.sender_id:
                    # The sender's other devices; senders need no offline copy.
                    self._hub.send(user_id, frame)
                elif self._hub.deliver(user_id, frame):
                    is_sent = True
                elif self._is_undelivered(room, message, user_id):
                    written = self._offline_writer.enqueue(user_id, _payload_of(room, message, view), message.sent_at)
                    if not written.done():
                        progress.writes += 1
                        written.add_done_callback(lambda _done: self._finish_write(room, progress))
            if is_sent:
                self._unconfirmed.add(room, message, number)
        except Exception:
            log.exception("live delivery failed room=%s seq=%d", room.id, message.seq)
        if progress.writes:
            self._unwritten.setdefault(room.id, deque()).append(progress)
        elif room.id in self._unwritten:
            # Merged into the message before, so that live messages do not pile up while Redis is unavailable.
            self._unwritten[room.id][-1].message = message
            room.pins -= 1
        else:
            self._finish(room, message)

    def _is_undelivered(self, room: RoomState, message: Message, user_id: str) -> bool:
        """False for a message that recovery found and that the user got before the crash."""
        return room.members[user_id].delivered < message.seq

    def _finish_write(self, room: RoomState, progress: _Unwritten) -> None:
        """Finish messages in room order, so that the delivered position skips none."""
        progress.writes -= 1
        unwritten = self._unwritten[room.id]
        while unwritten and not unwritten[0].writes:
            self._finish(room, unwritten.popleft().message)
        if not unwritten:
            del self._unwritten[room.id]

    def _finish(self, room: RoomState, message: Message) -> None:
        self._unconfirmed.settle(room, message)
        room.pins -= 1


def _payload_of(room: RoomState, message: Message, view: MessageView) -> bytes:
    """Payload of an offline queue entry: the message, or a reference to it if it is long."""
    payload = msgspec.json.encode(view)
    return payload if len(payload) <= MAX_INLINE_BYTES else refer(room.id, message.seq)
