"""Unconfirmed live deliveries: those lost with a connection go on the user's offline queue."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from server.models import DELIVERY, Message, now
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
    """Deliveries of a room since the last one that all members have confirmed.

    Everything up to the `seq` in `queued` was sent live or is on the offline queues. `candidate` is a delivery number
    and the next cursor, which holds once that delivery, and so all before it, is confirmed.
    """

    __slots__ = ("candidate", "deliveries", "indexed", "newest_join", "queued", "room", "writes")

    def __init__(self, room: RoomState) -> None:
        self.room = room
        self.deliveries: deque[_Delivery] = deque()
        # The users under whom the room is found.
        self.indexed = set[str]()
        self.newest_join = -1
        self.queued = 0
        self.candidate: tuple[int, int] | None = None
        # Offline-queue writes that are not done.
        self.writes = 0


class Unconfirmed:
    """Moves the cursor of a room only past live deliveries that are confirmed or queued, so a crash loses none.

    Delivery numbers increase over all rooms, so that one number says what a connection has confirmed.
    """

    def __init__(self, hub: Hub, offline_writer: OfflineQueueWriter) -> None:
        self._hub = hub
        self._offline_writer = offline_writer
        self._rooms: dict[str, _Room] = {}
        self._by_user: dict[str, dict[str, _Room]] = {}

    def add(self, room: RoomState, message: Message, number: int) -> None:
        """A message was sent to connected users under this number."""
        waiting = self._rooms.get(room.id)
        if waiting is None:
            waiting = self._rooms[room.id] = _Room(room)
            room.pins += 1
        self._index(waiting)
        waiting.deliveries.append(_Delivery(number, message.seq, message.sender_id))

    def note_queued(self, room: RoomState, seq: int) -> None:
        """Everything up to `seq` was sent live or is on the offline queues."""
        waiting = self._rooms.get(room.id)
        if waiting is None:
            room.advance(DELIVERY, seq)
        else:
            waiting.queued = seq

    def requeue(self, user_id: str, lost: Sequence[Span]) -> None:
        """Put references to the deliveries in these spans on the user's offline queue, in order of delivery."""
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
            member = waiting.room.members.get(user_id)
            if member is not None and delivery.seq > member.read.seq:
                self._enqueue(user_id, delivery, waiting, moment)

    def advance(self) -> None:
        """Move cursors past confirmed deliveries. Call about once a second."""
        for waiting in list(self._rooms.values()):
            self._advance(waiting)

    def _advance(self, waiting: _Room) -> None:
        room, deliveries = waiting.room, waiting.deliveries
        # Of those who were there; one who left has no part in it any more.
        confirmed = min(map(self._hub.confirmed_upto, room.members), default=deliveries[-1].number if deliveries else 0)
        while deliveries and deliveries[0].number <= confirmed:
            deliveries.popleft()
        if waiting.writes:
            # The cursor must not pass deliveries that are not on a queue yet.
            return
        if not deliveries:
            self._forget(waiting)
            return
        if waiting.candidate is not None and waiting.candidate[0] <= confirmed:
            room.advance(DELIVERY, waiting.candidate[1])
            waiting.candidate = None
        if waiting.candidate is None and waiting.queued:
            waiting.candidate = deliveries[-1].number, waiting.queued

    def _index(self, waiting: _Room) -> None:
        """Make the room known under all its members; again only if somebody has joined since."""
        if waiting.newest_join == waiting.room.newest_join:
            return
        waiting.newest_join = waiting.room.newest_join
        for user_id in waiting.room.members.keys() - waiting.indexed:
            self._by_user.setdefault(user_id, {})[waiting.room.id] = waiting
            waiting.indexed.add(user_id)

    def _forget(self, waiting: _Room) -> None:
        room = waiting.room
        room.advance(DELIVERY, waiting.queued)
        room.pins -= 1
        del self._rooms[room.id]
        for user_id in waiting.indexed:
            rooms = self._by_user[user_id]
            del rooms[room.id]
            if not rooms:
                del self._by_user[user_id]

    def _enqueue(self, user_id: str, delivery: _Delivery, waiting: _Room, at: datetime) -> None:
        written = self._offline_writer.enqueue(user_id, refer(waiting.room.id, delivery.seq), at)
        if not written.done():
            waiting.writes += 1
            written.add_done_callback(lambda _done: self._finish_write(waiting))

    def _finish_write(self, waiting: _Room) -> None:
        waiting.writes -= 1
