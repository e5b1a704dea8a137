"""Frozen data types shared by storage and services."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

import msgspec

from server.lookalikes import fold

MessageType = Literal["TEXT", "IMAGE", "FILE"]
# The consumer of the log that every room has: live delivery and offline queues.
DELIVERY: Final = "delivery"
# Matches phone numbers, and search queries for them.
PHONE: Final = re.compile(r"[0-9+()\-. ]*[0-9][0-9+()\-. ]*")


def now() -> datetime:
    """The current time in UTC, cut to the milliseconds that the wire and the store keep."""
    return datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC)


class User(msgspec.Struct, frozen=True):
    """A user. `email` is as shown, `email_key` unique. `last_seen_at` is when the last socket disconnected."""

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

    @property
    def email_key(self) -> str:
        """One spelling for all emails that look alike."""
        return fold(self.email)

    @property
    def full_name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip()


class Principal(msgspec.Struct, frozen=True):
    """Who asks: a user, in a login session or without one, until a time in seconds since 1970.

    `scopes` names what they may do; None is everything, as for people in their own sessions.
    """

    user_id: str
    session_id: str | None
    expires_at: float
    scopes: frozenset[str] | None = None

    def may(self, scope: str) -> bool:
        return self.scopes is None or scope in self.scopes


class Message(msgspec.Struct, frozen=True):
    """One entry of a room's log. `(room_id, seq)` is unique, and `seq` has no gaps.

    `sender_seq` numbers the messages of one sender in the room. With it, the number of a user's own messages among the
    first n is known without counting.
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


class Member(msgspec.Struct, frozen=True):
    """A user's membership of a room. The marks never decrease.

    `read_own` is the number of the member's own messages up to `last_read_seq`.
    `peer_id` is the other user of a room of two.
    """

    room_id: str
    user_id: str
    peer_id: str | None = None
    role: str = "member"
    last_delivered_seq: int = 0
    last_read_seq: int = 0
    read_own: int = 0


class Room(msgspec.Struct, frozen=True):
    """A room as stored. Its members are stored apart, before it.

    `last_seq` and `last_message` are derived from the log and may lag behind it.

    `cursors` has the `seq` up to which each consumer of the log has taken the room, by consumer. It may lag too, so
    that a consumer sees an entry again.
    """

    id: str
    created_by: str
    booking_id: str | None
    created_at: datetime
    last_seq: int = 0
    last_message: Message | None = None
    cursors: Mapping[str, int] = msgspec.field(default_factory=dict)


class RoomEnd(NamedTuple):
    """What is saved of a room as it grows: its last message, if it has one, and the cursors of the log's consumers."""

    room_id: str
    last_message: Message | None
    cursors: Mapping[str, int]
