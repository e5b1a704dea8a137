"""Frozen data types shared by storage and services."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

import msgspec

from server.lookalikes import fold

# What people send, and what rooms tell of themselves.
SentType = Literal["TEXT", "IMAGE", "FILE"]
MessageType = Literal["TEXT", "IMAGE", "FILE", "NOTICE"]
RoomType = Literal["DIRECT", "GROUP"]
Role = Literal["OWNER", "ADMIN", "MEMBER"]
Visibility = Literal["PRIVATE", "OPEN"]
HistoryMode = Literal["ALL", "JOINED"]
ChangeKind = Literal["EDITED", "DELETED", "REACTION", "PINNED", "UNPINNED"]
NoticeKind = Literal["CREATED", "JOINED", "ADDED", "LEFT", "REMOVED", "RENAMED", "CHANGED", "ROLE"]
Notify = Literal["ALL", "MENTIONS", "NONE"]
MUTED_FOREVER: Final = "FOREVER"
# The consumer of the log that every room has: live delivery and offline queues.
DELIVERY: Final = "delivery"
# Matches phone numbers, and search queries for them.
PHONE: Final = re.compile(r"[0-9+()\-. ]*[0-9][0-9+()\-. ]*")


def now() -> datetime:
    """The current time in UTC, cut to the milliseconds that the wire and the store keep."""
    return datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC)


class User(msgspec.Struct, frozen=True):
    """A user. `email` is as shown, `email_key` unique. `last_seen_at` is when the last socket disconnected.

    `is_external`: another service has the account.
    """

    id: str
    email: str
    first_name: str
    last_name: str
    phone: str | None = None
    profile_image: str | None = None
    user_type: str | None = None
    trust_score: float | None = None
    is_active: bool = True
    last_seen_at: datetime | None = None
    created_at: datetime | None = None
    is_external: bool = False

    @property
    def email_key(self) -> str:
        """One spelling for all emails that look alike.

        Accounts of another service log in elsewhere: their emails may be missing, or be those of others. They, and
        accounts that are deleted, have a key that no email is like.
        """
        return f"id {self.id}" if self.is_external or not self.email else fold(self.email)

    @property
    def full_name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip()


class Principal(msgspec.Struct, frozen=True):
    """Who asks: a user, in a login session or without one, until a time in seconds since 1970.

    `scopes` names what they may do; None is everything that people may in their own sessions. `granted` names what
    their token allows them beyond that.
    """

    user_id: str
    session_id: str | None
    expires_at: float
    scopes: frozenset[str] | None = None
    granted: frozenset[str] = frozenset()

    def may(self, scope: str) -> bool:
        return self.scopes is None or scope in self.scopes

    def is_granted(self, scope: str) -> bool:
        """Whether the token itself names this scope."""
        return scope in self.granted


class Client(NamedTuple):
    """The address that a request came from, and what the program there calls itself."""

    address: str = ""
    user_agent: str = ""


class RoomDetails(msgspec.Struct, frozen=True):
    """What people say of a room. With history `JOINED`, members see nothing from before they joined."""

    name: str | None = None
    description: str | None = None
    image: str | None = None
    visibility: Visibility = "PRIVATE"
    history: HistoryMode = "ALL"


class Notice(msgspec.Struct, frozen=True):
    """What happened to a room, told in its log. Rooms follow: their members and details are made of their notices.

    `user_ids` came, left or got `role`. `heir` becomes an owner, as the last one left. `details` are all details of the
    room from here on.
    """

    kind: NoticeKind
    user_ids: tuple[str, ...] = ()
    role: Role | None = None
    heir: str | None = None
    details: RoomDetails | None = None


class Reaction(msgspec.Struct, frozen=True):
    """One emoji on a message, and the users who gave it, the first one first."""

    emoji: str
    user_ids: tuple[str, ...]


class Message(msgspec.Struct, frozen=True):
    """One entry of a room's log. `(room_id, seq)` is unique, and `seq` has no gaps.

    `sender_seq` numbers the messages of one sender in the room, and `notices` is the number of notices up to this one.
    With these, unread messages are known without counting. A notice has no number of its own among those of its sender.

    `reply_to` is the id of a message of the same room, and `forwarded_from` the name of the first sender. `rev` is the
    number of the message's last change in its room, 0 if it has never changed; what is below it comes of changes.
    """

    id: str
    room_id: str
    seq: int
    sender_id: str
    sender_seq: int
    content: str
    type: MessageType
    sent_at: datetime
    attachment_url: str | None = None
    client_message_id: str | None = None
    notices: int = 0
    notice: Notice | None = None
    reply_to: str | None = None
    mentions: tuple[str, ...] = ()
    mentions_room: bool = False
    forwarded_from: str | None = None
    rev: int = 0
    edited_at: datetime | None = None
    deleted_at: datetime | None = None
    reactions: tuple[Reaction, ...] = ()
    pinned_at: datetime | None = None
    pinned_by: str | None = None

    @property
    def has_extras(self) -> bool:
        """Whether it has anything that plain messages lack."""
        return bool(
            self.rev
            or self.notice
            or self.reply_to
            or self.mentions
            or self.mentions_room
            or self.forwarded_from is not None
        )

    @property
    def mentions_anybody(self) -> bool:
        return self.mentions_room or bool(self.mentions)


class Quote(NamedTuple):
    """What a reply shows of the message that it answers: that message as it is now, and the name of its sender."""

    message: Message
    sender_name: str


class Position(NamedTuple):
    """A place in a room's log as a member sees it: the numbers of their own messages and of notices up to there."""

    seq: int = 0
    own: int = 0
    notices: int = 0


class Member(msgspec.Struct, frozen=True):
    """A user's membership of a room. Marks never decrease, except that a member who comes back may begin anew.

    `joined` is where they came in: if the room's history is `JOINED`, they see what is after it. `changed_seq` is that
    of the last notice that changed their membership. `sent` is the number of their messages in the room.
    `peer_id` is the other user of a room of two.
    """

    room_id: str
    user_id: str
    peer_id: str | None = None
    role: Role = "MEMBER"
    joined_at: datetime | None = None
    joined: Position = Position()
    changed_seq: int = 0
    sent: int = 0
    last_delivered_seq: int = 0
    read: Position = Position()


class ChatSettings(msgspec.Struct, frozen=True):
    """What a member wants of a room for themselves. `muted_until` may be `MUTED_FOREVER`."""

    muted_until: datetime | str | None = None
    notify: Notify = "ALL"
    is_pinned: bool = False
    is_archived: bool = False


class Room(msgspec.Struct, frozen=True):
    """A room as stored. Its members are stored apart, before it.

    `last_seq` and `last_message` are derived from the log and may lag behind it, and so may `details`.

    `last_rev` is the number of the last change of a message, or a higher one; `end_rev` that of the last which
    `last_message` takes into account. `last_mention` is the `seq` of the last message that mentions somebody; it may
    lag as `last_seq` does.

    `cursors` has the `seq` up to which each consumer of the log has taken the room, by consumer. It may lag too, so
    that a consumer sees an entry again.
    """

    id: str
    created_by: str
    booking_id: str | None
    created_at: datetime
    type: RoomType = "DIRECT"
    details: RoomDetails = RoomDetails()
    last_seq: int = 0
    last_message: Message | None = None
    last_rev: int = 0
    end_rev: int = 0
    last_mention: int = 0
    cursors: Mapping[str, int] = msgspec.field(default_factory=dict)


class RoomEnd(NamedTuple):
    """What is saved of a room as it grows: its last message, if it has one, and the cursors of the log's consumers.

    `end_rev` is the number of the last change that `last_message` takes into account. `details` is None if they have
    not changed.
    """

    room_id: str
    last_message: Message | None
    cursors: Mapping[str, int]
    details: RoomDetails | None = None
    end_rev: int = 0
    last_mention: int = 0
