"""Room state in memory: the end of the log and each member's marks, from which unread counts and ticks are derived."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from server.models import Member, Message, Room, RoomEnd


class StoredMessage(NamedTuple):
    """A stored message that is not delivered yet. It pins its room until delivery."""

    room: "RoomState"
    message: Message
    sender_name: str


class MemberState:
    """One member's marks. They only grow; reading implies delivery.

    `is_changed` is set if the member's own message raised them and they are not stored yet.
    """

    __slots__ = ("delivered", "is_changed", "peer_id", "read", "read_own", "sent", "user_id")

    def __init__(self, member: Member) -> None:
        self.user_id = member.user_id
        self.peer_id = member.peer_id
        self.delivered = max(member.last_delivered_seq, member.last_read_seq)
        self.read = member.last_read_seq
        self.read_own = member.read_own
        self.sent = 0
        self.is_changed = False


class RoomState:
    """State of one room. `members` are by user id. `last_seq` is the end of its log as far as this process has read it.

    `is_checked` is set if the log was read to its end since the room was loaded or a write had an unknown outcome.
    `pins` counts the users of this object: while it is positive, the object stays in the cache and is the only one of
    its room. Every message pins its room until each consumer of the log has taken it.
    """

    __slots__ = (
        "__weakref__",
        "booking_id",
        "created_at",
        "created_by",
        "cursors",
        "id",
        "is_changed",
        "is_checked",
        "last_message",
        "last_seq",
        "members",
        "pins",
    )

    def __init__(self, room: Room, members: list[Member]) -> None:
        self.id = room.id
        self.created_by = room.created_by
        self.booking_id: str | None = room.booking_id
        self.created_at: datetime = room.created_at
        self.last_seq = 0
        self.last_message: Message | None = None
        self.cursors = dict(room.cursors)
        self.members = {member.user_id: MemberState(member) for member in members}
        self.is_checked = False
        self.is_changed = False
        self.pins = 0
        if room.last_message is not None:
            self._take_end(room.last_message)

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Pin the room for work that waits for a store and then changes this object."""
        self.pins += 1
        try:
            yield
        finally:
            self.pins -= 1

    def append(self, message: Message) -> None:
        """Append the next message of the log. Raises `ValueError` if it is not the next."""
        if message.seq != self.last_seq + 1:
            raise ValueError(f"message {message.seq} does not follow {self.last_seq}")
        # None if the sender was removed and the message is read from the log.
        sender = self.members.get(message.sender_id)
        had_read_all = sender is not None and self.unread(sender.user_id) == 0
        self._take_end(message)
        if sender is not None and had_read_all:
            # A sender who had read everything has read their own message too.
            self.raise_read(message.sender_id, message.seq, sender.sent)
            sender.is_changed = True
        self.is_changed = True

    def cursor(self, consumer: str) -> int:
        """The `seq` up to which this consumer of the log is done with the room."""
        return self.cursors.get(consumer, 0)

    def advance(self, consumer: str, seq: int) -> None:
        """This consumer is done with everything up to `seq`. A cursor never decreases."""
        if seq > self.cursors.get(consumer, 0):
            self.cursors[consumer] = seq
            self.is_changed = True

    def end(self) -> RoomEnd:
        return RoomEnd(self.id, self.last_message, dict(self.cursors))

    def sent_by(self, user_id: str) -> int:
        return self.members[user_id].sent

    def own_upto(self, message: Message, user_id: str) -> int:
        """Number of the user's own messages up to `message`."""
        return message.sender_seq if message.sender_id == user_id else message.seq - message.sender_seq

    def unread(self, user_id: str) -> int:
        """Number of other members' messages after the user's read mark."""
        member = self.members[user_id]
        return (self.last_seq - member.sent) - (member.read - member.read_own)

    def is_read(self, message: Message, user_id: str) -> bool:
        """For the user's own message: whether all others have read it. Else: whether the user has."""
        if message.sender_id == user_id:
            return all(member.read >= message.seq for other, member in self.members.items() if other != user_id)
        return self.members[user_id].read >= message.seq

    def raise_read(self, user_id: str, seq: int, read_own: int) -> bool:
        """Raise the read and delivered marks in memory; the caller has stored them. False if not higher."""
        member = self.members[user_id]
        if seq <= member.read:
            return False
        member.read = seq
        member.read_own = read_own
        member.delivered = max(member.delivered, seq)
        return True

    def raise_delivered(self, user_id: str, seq: int) -> bool:
        """Raise the delivered mark in memory; the caller has stored it. False if not higher."""
        member = self.members[user_id]
        if seq <= member.delivered:
            return False
        member.delivered = seq
        return True

    def others(self, user_id: str) -> list[str]:
        return [other for other in self.members if other != user_id]

    def take_changes(self) -> list[Member]:
        """The changed marks, to be stored together with `end`. They count as stored from now on."""
        self.is_changed = False
        changed = [member for member in self.members.values() if member.is_changed]
        for member in changed:
            member.is_changed = False
        return [
            Member(
                room_id=self.id,
                user_id=member.user_id,
                last_delivered_seq=member.delivered,
                last_read_seq=member.read,
                read_own=member.read_own,
            )
            for member in changed
        ]

    def keep_changes(self) -> None:
        """Undo `take_changes`: the store failed."""
        self.is_changed = True
        for member in self.members.values():
            member.is_changed = True

    def _take_end(self, message: Message) -> None:
        self.last_seq = message.seq
        self.last_message = message
        for user_id, member in self.members.items():
            member.sent = self.own_upto(message, user_id)
