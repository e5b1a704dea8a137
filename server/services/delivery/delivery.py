"""Delivery of stored messages: live to connected sockets, else to the offline queue. A consumer of the log."""

import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from server.events import MESSAGE_CHANGED, MESSAGE_NEW, ChangedView
from server.models import DELIVERY, Message
from server.realtime.fan_out import FanOut
from server.realtime.frames import Frame, event_frame
from server.room_state import RoomState, StoredChange, StoredMessage
from server.services.delivery.offline_queue_writer import OfflineQueueWriter
from server.services.delivery.ports import People, Quotes
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
        quotes: Quotes,
        end_typing: Callable[[str, str], None],
        announce: Callable[[StoredMessage], None],
    ) -> None:
        self._fan_out = fan_out
        self._offline_writer = offline_writer
        self._unconfirmed = unconfirmed
        self._messages = messages
        self._people = people
        self._quotes = quotes
        self._end_typing = end_typing
        self._announce = announce
        self._unwritten: dict[str, deque[_Unwritten]] = {}

    def take(self, stored: Sequence[StoredMessage]) -> None:
        """Send each message to the connections of its receivers, or enqueue it for them."""
        for one in stored:
            self._deliver(one)

    def take_changes(self, stored: Sequence[StoredChange]) -> None:
        """Send each change to the connections of members. Others get it by `sync`."""
        for one in stored:
            try:
                self._send_change(one)
            except Exception:
                log.exception("delivery of a change failed room=%s rev=%d", one.room.id, one.message.rev)

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
        quotes = await self._quotes.find(messages)
        self.take(
            [
                StoredMessage(
                    room, message, name_of(senders.get(message.sender_id)), quotes.get(message.reply_to or "")
                )
                for message in messages
            ]
        )
        await self._offline_writer.wait_written()
        return {
            user_id
            for message in messages
            for user_id in room.receivers(message)
            if room.keeps_queues and message.notice is None and delivered.get(user_id, 0) < message.seq
        }

    def _deliver(self, stored: StoredMessage) -> None:
        room, message = stored.room, stored.message
        progress = _Unwritten(message.seq)
        try:
            self._end_typing(message.sender_id, room.id)
            if message.notice is not None:
                # Those who come in hear of the room before its message.
                self._announce(stored)
            receivers = room.receivers(message)
            frames = _make_frames(stored, receivers)
            # The sender's own devices; senders need no offline copy.
            if message.sender_id in room.members:
                self._fan_out.send((message.sender_id,), frames[0].frame)
            deliveries = [self._fan_out.deliver(user_ids, frame) for user_ids, frame in frames]
            # Others get what they missed from history and `sync`.
            is_queued = room.keeps_queues and message.notice is None
            for user_id in itertools.chain(*(one.missed for one in deliveries)) if is_queued else ():
                if self._is_undelivered(room, message, user_id):
                    reference = refer(room.id, message.seq, len(frames[0].frame.wire))
                    written = self._offline_writer.enqueue(user_id, reference, message.sent_at)
                    if not written.done():
                        progress.writes += 1
                        written.add_done_callback(lambda _done: self._finish_write(room, progress))
            for delivered, (user_ids, _frame) in zip(deliveries, frames, strict=True):
                if is_queued and len(delivered.missed) < len(user_ids):
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

    def _send_change(self, stored: StoredChange) -> None:
        """One frame for all who see the same."""
        room, message = stored.room, stored.message
        frames: dict[tuple[bool, bool, tuple[bool, ...]], Frame] = {}
        # Sets, as in a crowd many may have reacted.
        reacting = [frozenset(reaction.user_ids) for reaction in message.reactions]
        for user_id in room.members:
            if not self._fan_out.is_connected(user_id) or not room.may_see(user_id, message.seq):
                continue
            quote = room.show_quote(user_id, stored.quote)
            is_read = room.is_read(message, user_id)
            mine = tuple(user_id in user_ids for user_ids in reacting)
            seen = is_read, quote is None, mine
            if seen not in frames:
                change = ChangedView(
                    room_id=room.id,
                    rev=message.rev,
                    prev_rev=stored.prev_rev,
                    kind=stored.kind,
                    by=stored.by,
                    message=view_message(message, stored.sender_name, is_read, user_id, quote),
                )
                frames[seen] = event_frame(MESSAGE_CHANGED, change)
            self._fan_out.send((user_id,), frames[seen])

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


class _Addressed(NamedTuple):
    user_ids: Sequence[str]
    frame: Frame


def _make_frames(stored: StoredMessage, receivers: Sequence[str]) -> list[_Addressed]:
    """One frame for all, and another for those who may not see the message that this one answers."""
    room, message, sender_name, quote = stored
    frame = event_frame(MESSAGE_NEW, view_message(message, sender_name, False, "", quote))
    if quote is None or room.details.history == "ALL" or quote.message.seq > room.newest_join:
        return [_Addressed(receivers, frame)]
    seeing = [user_id for user_id in receivers if room.may_see(user_id, quote.message.seq)]
    others = [user_id for user_id in receivers if not room.may_see(user_id, quote.message.seq)]
    bare = event_frame(MESSAGE_NEW, view_message(message, sender_name, False))
    return [_Addressed(seeing, frame), _Addressed(others, bare)]
