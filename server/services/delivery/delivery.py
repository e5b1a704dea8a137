"""From the log to the people: live to every connected socket, to the offline queue for everybody else."""

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

# What is longer than nearly all that people type is read from the log when its time comes. In a queue it would take the
# memory of Redis, and while that is away this process's.
LONGEST_QUEUED: Final = 4096


class _OnItsWay:
    """One message whose pushes on offline queues are not all written.

    `message` is what counts as settled once they are: that message, or a later one that needed no push.
    """

    __slots__ = ("message", "offline_writer")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.offline_writer = 0


class Delivery:
    """Delivers stored messages in the log's order. Nothing that fails here reaches the sender."""

    def __init__(
        self,
        sockets: Hub,
        offline_writer: OfflineQueueWriter,
        unconfirmed: Unconfirmed,
        end_typing: Callable[[str, str], None],
    ) -> None:
        self._sockets = sockets
        self._offline_writer = offline_writer
        self._unconfirmed = unconfirmed
        self._end_typing = end_typing
        self._on_their_way: dict[str, deque[_OnItsWay]] = {}

    def deliver(self, stored: Sequence[StoredMessage]) -> None:
        """Each comes with one hold on its room, which is let go of once the message is delivered and queued."""
        for one in stored:
            self._deliver_one(one)

    def _deliver_one(self, stored: StoredMessage) -> None:
        room, message, sender_name = stored
        progress = _OnItsWay(message)
        try:
            self._end_typing(message.sender_id, room.id)
            view = view_message(message, sender_name, is_read=False)
            frame = event_frame(MESSAGE_NEW, view)
            number, is_out = self._sockets.next_delivery(), False
            for user_id in room.user_ids:
                if user_id == message.sender_id:
                    # Nobody is owed what they wrote themselves.
                    self._sockets.send(user_id, frame)
                elif self._sockets.deliver(user_id, frame):
                    is_out = True
                elif self._is_owed(room, message, user_id):
                    pushed = self._offline_writer.enqueue(user_id, _payload_of(room, message, view), message.sent_at)
                    if not pushed.done():
                        progress.offline_writer += 1
                        pushed.add_done_callback(lambda _done: self._end_push(room, progress))
            if is_out:
                self._unconfirmed.add(room, message, number)
        except Exception:
            log.exception("message %s of room %s was not delivered live", message.seq, room.id)
        if progress.offline_writer:
            self._on_their_way.setdefault(room.id, deque()).append(progress)
        elif room.id in self._on_their_way:
            # Settled together with the one before: what needs no queue must not pile up behind what waits for Redis.
            self._on_their_way[room.id][-1].message = message
            room.pins -= 1
        else:
            self._let_go(room, message)

    def _is_owed(self, room: RoomState, message: Message, user_id: str) -> bool:
        """Where it was stored before a crash, one may have got it before."""
        return room.members[user_id].delivered < message.seq

    def _end_push(self, room: RoomState, progress: _OnItsWay) -> None:
        progress.offline_writer -= 1
        self._settle(room)

    def _settle(self, room: RoomState) -> None:
        """Let go of what is delivered, in the room's order, so that its settled end leaves nothing behind it."""
        on_their_way = self._on_their_way[room.id]
        while on_their_way and not on_their_way[0].offline_writer:
            self._let_go(room, on_their_way.popleft().message)
        if not on_their_way:
            del self._on_their_way[room.id]

    def _let_go(self, room: RoomState, message: Message) -> None:
        self._unconfirmed.settle(room, message)
        room.pins -= 1


def _payload_of(room: RoomState, message: Message, view: MessageView) -> bytes:
    """An entry of an offline queue: the message, or where it is long a reference to it."""
    payload = msgspec.json.encode(view)
    return payload if len(payload) <= LONGEST_QUEUED else refer(room.id, message.seq)
