"""Live deliveries until they are confirmed: what was lost with a connection goes on its user's offline queue."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from server.models import Message, now
from server.realtime.confirmations import Span
from server.realtime.hub import Hub
from server.room_state import RoomState
from server.services.delivery.offline_queue_writer import OfflineQueueWriter
from server.storage.redis.offline_queues import refer


class _Delivery(NamedTuple):
    number: int
    seq: int
    sender_id: str


class _Room:
    """The deliveries of a room since the last one that everybody has confirmed.

    `queued` is the last message up to which those for absent people are on their queues. `next_end` is one that may
    become the room's settled end: once the delivery of that number, and so all before it, is confirmed.
    """

    __slots__ = ("deliveries", "next_end", "offline_writer", "queued", "room")

    def __init__(self, room: RoomState) -> None:
        self.room = room
        self.deliveries: deque[_Delivery] = deque()
        self.queued: Message | None = None
        self.next_end: tuple[int, Message] | None = None
        # On their way to offline queues.
        self.offline_writer = 0


class Unconfirmed:
    """A room is settled up to where its live deliveries are confirmed or queued, so that a crash loses none of them.

    Each delivery has a number, rising over all rooms, so that a connection needs but one to say what it has confirmed.
    """

    def __init__(self, sockets: Hub, offline_writer: OfflineQueueWriter) -> None:
        self._sockets = sockets
        self._offline_writer = offline_writer
        self._rooms: dict[str, _Room] = {}
        self._by_user: dict[str, dict[str, _Room]] = {}

    def add(self, room: RoomState, message: Message, number: int) -> None:
        """A message went out to connected people under this number."""
        waiting = self._rooms.get(room.id)
        if waiting is None:
            waiting = self._rooms[room.id] = _Room(room)
            room.pins += 1
            self._index(waiting)
        waiting.deliveries.append(_Delivery(number, message.seq, message.sender_id))

    def settle(self, room: RoomState, message: Message) -> None:
        """Everything up to `message` went out or is on the queues of those who are away."""
        waiting = self._rooms.get(room.id)
        if waiting is None:
            room.settle(message)
        else:
            waiting.queued = message

    def requeue(self, user_id: str, lost: Sequence[Span]) -> None:
        """Put on the user's offline queue what went out under these numbers, in its order. Queues refer to the log."""
        if not lost:
            return
        found = [
            (delivery, waiting)
            for waiting in self._by_user.get(user_id, {}).values()
            for delivery in waiting.deliveries
            if delivery.sender_id != user_id and any(span.after < delivery.number <= span.upto for span in lost)
        ]
        moment = now()
        for delivery, waiting in sorted(found, key=lambda pair: pair[0]):
            if delivery.seq > waiting.room.members[user_id].read:
                self._push(user_id, delivery, waiting, moment)

    def look(self) -> None:
        """Settle what has been confirmed; to be called every second or so."""
        for waiting in list(self._rooms.values()):
            self._look_at(waiting)

    def _look_at(self, waiting: _Room) -> None:
        room, deliveries = waiting.room, waiting.deliveries
        confirmed = min(map(self._sockets.confirmed_upto, room.user_ids))
        while deliveries and deliveries[0].number <= confirmed:
            deliveries.popleft()
        if waiting.offline_writer:
            # What is owed to somebody who has gone must be on the queue before.
            return
        if not deliveries:
            self._forget(waiting)
            return
        if waiting.next_end is not None and waiting.next_end[0] <= confirmed:
            room.settle(waiting.next_end[1])
            waiting.next_end = None
        if waiting.next_end is None and waiting.queued is not None:
            waiting.next_end = deliveries[-1].number, waiting.queued
        # Somebody may have come in.
        self._index(waiting)

    def _index(self, waiting: _Room) -> None:
        for user_id in waiting.room.user_ids:
            self._by_user.setdefault(user_id, {})[waiting.room.id] = waiting

    def _forget(self, waiting: _Room) -> None:
        room = waiting.room
        if waiting.queued is not None:
            room.settle(waiting.queued)
        room.pins -= 1
        del self._rooms[room.id]
        for user_id in room.user_ids:
            rooms = self._by_user[user_id]
            del rooms[room.id]
            if not rooms:
                del self._by_user[user_id]

    def _push(self, user_id: str, delivery: _Delivery, waiting: _Room, at: datetime) -> None:
        pushed = self._offline_writer.enqueue(user_id, refer(waiting.room.id, delivery.seq), at)
        if not pushed.done():
            waiting.offline_writer += 1
            pushed.add_done_callback(lambda _done: self._end_push(waiting))

    def _end_push(self, waiting: _Room) -> None:
        waiting.offline_writer -= 1
