"""Room state in memory: the end of the log, details and members, from which unread counts and ticks are derived."""

from collections.abc import Callable, Collection, Iterable, Iterator, Set
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from server.blocks import BlockIndex
from server.errors import BLOCKED, Forbidden
from server.member_state import MemberState
from server.models import ChangeKind, Member, Message, Position, Quote, Role, Room, RoomDetails, RoomEnd
from server.notices import follow


class StoredMessage(NamedTuple):
    """A stored message that is not delivered yet. It pins its room until delivery. `quote` is of what it replies to."""

    room: "RoomState"
    message: Message
    sender_name: str
    quote: Quote | None = None


class StoredChange(NamedTuple):
    """A stored change of a message by a user, which is not delivered yet. It pins its room until delivery.

    `prev_rev` is the number of the change before it in the room.
    """

    room: "RoomState"
    message: Message
    sender_name: str
    kind: ChangeKind
    by: str
    prev_rev: int
    quote: Quote | None = None


class Bounds(NamedTuple):
    """The numbers of members up to which a room tells everybody of receipts and typing, of presence, and keeps offline
    queues.
    """

    receipts: int
    presence: int
    offline_queue: int


class RoomChanges(NamedTuple):
    """What is not stored yet: memberships as a whole, former members, raised marks, and the end, to be stored last."""

    joined: list[Member]
    left: list[Member]
    marks: list[Member]
    end: RoomEnd


class RoomState:
    """State of one room. `members` are by user id. `last_seq` is the end of its log as far as this process has read it,
    `last_rev` the number of the last change of a message, `last_mention` the `seq` of the last that mentions anybody.

    `is_checked` is set if the log was read to its end since the room was loaded or a write had an unknown outcome.
    `is_ended` is set if the room was deleted. `former` has what is stored of members who left and may come back now.
    `on_members` is called with the users who joined and who left.
    `pins` counts the users of this object: while it is positive, the object stays in the cache and is the only one of
    its room. Every message pins its room until each consumer of the log has taken it.
    """

    __slots__ = (
        "__weakref__",
        "_blocks",
        "_on_members",
        "booking_id",
        "bounds",
        "created_at",
        "created_by",
        "cursors",
        "details",
        "former",
        "has_new_details",
        "id",
        "is_changed",
        "is_checked",
        "is_ended",
        "last_mention",
        "last_message",
        "last_rev",
        "last_seq",
        "left",
        "members",
        "newest_join",
        "notices",
        "pins",
        "type",
    )

    def __init__(
        self,
        room: Room,
        members: Iterable[Member],
        bounds: Bounds,
        on_members: Callable[["RoomState", Collection[str], Collection[str]], None] = lambda *_: None,
        blocks: BlockIndex | None = None,
    ) -> None:
        self.id = room.id
        self.type = room.type
        self.created_by = room.created_by
        self.booking_id: str | None = room.booking_id
        self.created_at: datetime = room.created_at
        self.details: RoomDetails = room.details
        self.last_seq = 0
        self.notices = 0
        self.last_rev = room.last_rev
        self.last_mention = room.last_mention
        self.last_message: Message | None = None
        self.cursors = dict(room.cursors)
        self.members = {member.user_id: MemberState(member) for member in members}
        self.newest_join = max((member.joined.seq for member in self.members.values()), default=0)
        self.former: dict[str, Member] = {}
        self.left: dict[str, MemberState] = {}
        self.bounds = bounds
        self.is_checked = False
        self.is_changed = False
        self.is_ended = False
        self.has_new_details = False
        self.pins = 0
        self._on_members = on_members
        self._blocks = blocks or BlockIndex()
        if room.last_message is not None:
            self._take_end(room.last_message)
            if self.type == "DIRECT":
                # It follows from the last message, so that it need not be saved after every one.
                for member in self.members.values():
                    member.sent = self._own_in_pair(room.last_message, member.user_id)

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Pin the room for work that waits for a store and then changes this object."""
        self.pins += 1
        try:
            yield
        finally:
            self.pins -= 1

    @property
    def tells_receipts(self) -> bool:
        """Whether receipts and typing go to all members."""
        return len(self.members) <= self.bounds.receipts

    @property
    def tells_presence(self) -> bool:
        return len(self.members) <= self.bounds.presence

    @property
    def keeps_queues(self) -> bool:
        """Whether members who are offline get its messages on their offline queues."""
        return len(self.members) <= self.bounds.offline_queue

    def append(self, message: Message) -> None:
        """Append the next message of the log. Raises `ValueError` if it is not the next."""
        if message.seq != self.last_seq + 1:
            raise ValueError(f"message {message.seq} does not follow {self.last_seq}")
        # None if the sender left and the message is read from the log.
        sender = self.members.get(message.sender_id)
        had_read_all = sender is not None and self.unread(sender.user_id) == 0
        self._take_end(message)
        # What is stored of the sender may be of a later message than this one, with marks of then.
        if sender is not None and message.sender_seq > sender.sent:
            sender.sent = message.sender_seq
            sender.is_changed = sender.is_changed or had_read_all or self.type != "DIRECT"
            if had_read_all:
                # A sender who had read everything has read their own message too.
                sender.raise_read(Position(message.seq, sender.sent, message.notices))
        if message.notice is not None:
            joined, left = follow(self, message.notice, message)
            if joined or left:
                self._on_members(self, joined, left)
        if message.mentions_anybody:
            self.last_mention = message.seq
        self.is_changed = True

    def change(self, message: Message) -> None:
        """Take a message as it is since its last change, which is the latest of the room."""
        self.last_rev = message.rev
        if message.seq == self.last_seq:
            self.last_message = message
        if message.mentions_anybody:
            self.last_mention = max(self.last_mention, message.seq)
        self.is_changed = True

    def cursor(self, consumer: str) -> int:
        """The `seq` up to which this consumer of the log is done with the room."""
        return self.cursors.get(consumer, 0)

    def advance(self, consumer: str, seq: int) -> None:
        """This consumer is done with everything up to `seq`. A cursor never decreases."""
        if seq > self.cursors.get(consumer, 0):
            self.cursors[consumer] = seq
            self.is_changed = True

    def sent_by(self, user_id: str) -> int:
        """The number of the user's messages, also of one who left and may come back now."""
        known = self.members.get(user_id) or self.former.get(user_id)
        return 0 if known is None else known.sent

    def role_of(self, user_id: str) -> Role:
        return self.members[user_id].role

    def first_visible(self, user_id: str) -> Position:
        """The member sees what is after this position."""
        return self.members[user_id].joined if self.details.history == "JOINED" else Position()

    def may_see(self, user_id: str, seq: int) -> bool:
        return seq > self.first_visible(user_id).seq

    def show_quote(self, user_id: str, quote: Quote | None) -> Quote | None:
        """The quote, unless it is of a message that the member may not see."""
        return quote if quote is not None and self.may_see(user_id, quote.message.seq) else None

    def read_upto(self, user_id: str) -> int:
        """The member has read, or may not see, everything up to this `seq`."""
        return max(self.members[user_id].read, self.first_visible(user_id)).seq

    def is_waiting_for(self, user_id: str, seq: int) -> bool:
        """Whether the member has not read a message and may see it."""
        return seq > self.read_upto(user_id)

    def position_of(self, message: Message, user_id: str) -> Position | None:
        """The position of a message for a member; None if the member's own messages must be counted for it."""
        member = self.members[user_id]
        if self.type == "DIRECT":
            own = self._own_in_pair(message, user_id)
        elif message.sender_id == user_id:
            own = message.sender_seq
        elif member.sent == member.read.own and message.seq >= member.read.seq:
            own = member.sent
        else:
            return None
        return Position(message.seq, own, message.notices)

    def unread(self, user_id: str) -> int:
        """Number of other members' messages after the user's read mark that the user may see. Notices do not count.

        0 for one who has left.
        """
        member = self.members.get(user_id)
        if member is None:
            return 0
        read = max(member.read, self.first_visible(user_id))
        return (self.last_seq - self.notices - member.sent) - (read.seq - read.notices - read.own)

    def is_read(self, message: Message, user_id: str) -> bool:
        """For the user's own message: whether all others have read it who were there. Else: whether the user has.

        In rooms that do not tell receipts, whether anybody else has read it.
        """
        if message.sender_id != user_id:
            member = self.members.get(user_id)
            return member is not None and member.read.seq >= message.seq
        apart = self._blocks.apart_from(user_id)
        if apart and self.type == "DIRECT" and self.are_any_apart(user_id):
            return False
        others = (
            member.read.seq >= message.seq
            for other, member in self.members.items()
            if other != user_id and member.joined.seq < message.seq and other not in apart
        )
        return all(others) if self.tells_receipts else any(others)

    def apart_from(self, user_id: str) -> Set[str]:
        """People of whose receipts, presence and typing this user sees nothing, and they nothing of this user's."""
        return self._blocks.apart_from(user_id)

    def check_contact(self, user_id: str) -> None:
        """Raise `Forbidden` if the user and the other one of a direct room are apart."""
        if self.type == "DIRECT" and self.are_any_apart(user_id):
            raise Forbidden("One of the two has blocked the other", reason=BLOCKED)

    def are_any_apart(self, user_id: str) -> bool:
        """Whether the user is apart from any other member."""
        apart = self._blocks.apart_from(user_id)
        return bool(apart) and not apart.isdisjoint(self.members)

    def others(self, user_id: str) -> list[str]:
        return [other for other in self.members if other != user_id]

    def receivers(self, message: Message) -> list[str]:
        """The members other than its sender who may see a message."""
        if message.seq > self.newest_join or self.details.history == "ALL":
            return self.others(message.sender_id)
        return [
            user_id
            for user_id, member in self.members.items()
            if user_id != message.sender_id and member.joined.seq < message.seq
        ]

    def take_changes(self) -> RoomChanges:
        """What is not stored yet. It counts as stored from now on."""
        joined = [member.to_member(self.id) for member in self.members.values() if member.is_new]
        left = [member.to_member(self.id) for member in self.left.values()]
        changed = [member for member in self.members.values() if member.is_changed]
        end = RoomEnd(
            self.id,
            self.last_message,
            dict(self.cursors),
            self.details if self.has_new_details else None,
            self.last_rev,
            self.last_mention,
        )
        self.is_changed = self.has_new_details = False
        self.left.clear()
        for member in self.members.values():
            member.is_new = member.is_changed = False
        return RoomChanges(joined, left, [member.to_member(self.id) for member in changed], end)

    def keep_changes(self, changes: RoomChanges) -> None:
        """Undo `take_changes`: the store failed."""
        self.is_changed = True
        self.has_new_details = self.has_new_details or changes.end.details is not None
        for gone in changes.left:
            if gone.user_id not in self.members:
                self.left.setdefault(gone.user_id, MemberState(gone))
        for stored in changes.joined:
            if stored.user_id in self.members:
                self.members[stored.user_id].is_new = True
        for member in self.members.values():
            member.is_changed = True

    def _own_in_pair(self, message: Message, user_id: str) -> int:
        """Of two members, whatever is not by the sender of a message is by the other."""
        others = message.seq - message.notices - message.sender_seq
        return message.sender_seq if message.sender_id == user_id else others

    def _take_end(self, message: Message) -> None:
        self.last_seq = message.seq
        self.notices = message.notices
        self.last_message = message
