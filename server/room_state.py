"""A room in memory: the end of its log, and each member's marks, from which unread counts and ticks are derived."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from server.models import Member, Message, Room
from server.protocol import MemberView


class StoredMessage(NamedTuple):
    """A message of the log that is to be delivered. It pins its room until then."""

    room: "RoomState"
    message: Message
    sender_name: str


class MemberState:
    """One member's marks. They only grow; reading implies delivery.

    `is_changed` says that they grew by what the member wrote, and are not stored yet.
    """

    __slots__ = ("delivered", "is_changed", "read", "read_own", "sent", "user_id")

    def __init__(self, member: Member) -> None:
        self.user_id = member.user_id
        self.delivered = max(member.last_delivered_seq, member.last_read_seq)
        self.read = member.last_read_seq
        self.read_own = member.read_own
        self.sent = 0
        self.is_changed = False


class RoomState:
    """What the server knows of one room of two. `last_seq` is the end of its log as far as this process has seen.

    `is_checked` says that the log was read to its end since the room was loaded or its end was in doubt.
    `holds` counts who works with this object, which must then stay the only one of its room: every message counts
    from its sending until it is delivered. `settled_end` is the last message up to which all are.
    """

    __slots__ = (
        "__weakref__",
        "booking_id",
        "created_at",
        "id",
        "is_changed",
        "is_checked",
        "last_message",
        "last_seq",
        "members",
        "pins",
        "settled_end",
        "user_ids",
    )

    def __init__(self, room: Room, members: list[Member]) -> None:
        self.id = room.id
        self.user_ids = room.user_ids
        self.booking_id: str | None = room.booking_id
        self.created_at: datetime = room.created_at
        self.last_seq = 0
        self.last_message: Message | None = None
        self.settled_end: Message | None = None
        self.members = {member.user_id: MemberState(member) for member in members}
        self.is_checked = False
        self.is_changed = False
        self.pins = 0
        if room.last_message is not None:
            self._take_end(room.last_message)
            self.settled_end = room.last_message

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """One hold, for work that waits for a store and then changes this object."""
        self.pins += 1
        try:
            yield
        finally:
            self.pins -= 1

    def append(self, message: Message) -> None:
        """Take in the next message of the log. Raises `ValueError` where it is not the next."""
        if message.seq != self.last_seq + 1:
            raise ValueError(f"message {message.seq} does not follow {self.last_seq}")
        sender = self.members[message.sender_id]
        had_read_all = self.unread(message.sender_id) == 0
        self._take_end(message)
        if had_read_all:
            # Who has read everything and then writes has still read everything.
            self.raise_read(message.sender_id, message.seq, sender.sent)
            sender.is_changed = True
        self.is_changed = True

    def settle(self, message: Message) -> None:
        """Everything up to `message` is delivered or queued, so that its place may be stored as the room's end."""
        if self.settled_end is None or message.seq > self.settled_end.seq:
            self.settled_end = message
            self.is_changed = True

    def sent_by(self, user_id: str) -> int:
        return self.members[user_id].sent

    def own_upto(self, message: Message, user_id: str) -> int:
        """How many of the messages up to `message` are the user's own."""
        return message.sender_seq if message.sender_id == user_id else message.seq - message.sender_seq

    def unread(self, user_id: str) -> int:
        """How many messages of others lie after the user's read mark."""
        member = self.members[user_id]
        return (self.last_seq - member.sent) - (member.read - member.read_own)

    def is_read(self, message: Message, user_id: str) -> bool:
        """From the user's side: one's own is read once all others have read it, another's once oneself has."""
        if message.sender_id == user_id:
            return all(member.read >= message.seq for other, member in self.members.items() if other != user_id)
        return self.members[user_id].read >= message.seq

    def raise_read(self, user_id: str, seq: int, read_own: int) -> bool:
        """Raise the read and the delivered mark in memory; the caller has stored them. False if it was that high."""
        member = self.members[user_id]
        if seq <= member.read:
            return False
        member.read = seq
        member.read_own = read_own
        member.delivered = max(member.delivered, seq)
        return True

    def raise_delivered(self, user_id: str, seq: int) -> bool:
        """Raise the delivered mark in memory; the caller has stored it. False if it was that high."""
        member = self.members[user_id]
        if seq <= member.delivered:
            return False
        member.delivered = seq
        return True

    def others(self, user_id: str) -> list[str]:
        return [other for other in self.user_ids if other != user_id]

    def take_changes(self) -> list[Member]:
        """The marks that are to be stored together with `settled_end`; from now on they count as stored."""
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
        """What was taken could not be stored."""
        self.is_changed = True
        for member in self.members.values():
            member.is_changed = True

    def member_views(self) -> list[MemberView]:
        return [
            MemberView(user_id=member.user_id, last_delivered_seq=member.delivered, last_read_seq=member.read)
            for member in self.members.values()
        ]

    def _take_end(self, message: Message) -> None:
        self.last_seq = message.seq
        self.last_message = message
        for user_id, member in self.members.items():
            member.sent = self.own_upto(message, user_id)
