"""The shapes that clients get. What they send is in `requests.py`; the events are in `events.py`."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from server.errors import ErrorView
from server.models import HistoryMode, MessageType, NoticeKind, Notify, Role, RoomType, SentType, Visibility

NAMESPACE: Final = "/chat"


class Outbound(msgspec.Struct, frozen=True, rename="camel"):
    """A shape that goes to clients, in camelCase."""


# ISO 8601 in UTC with milliseconds and `Z`.
WireTime = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
# A message that is encoded already.
EncodedMessage = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"$ref": "#/components/schemas/MessageView"})]


class UserView(Outbound, frozen=True):
    """A profile. For those who may not see them, `email` is empty and `phone` null."""

    id: str
    email: str
    first_name: str
    last_name: str
    phone: str | None
    profile_image: str | None
    user_type: str | None
    trust_score: float | None
    full_name: str
    is_online: bool
    last_seen_at: WireTime | None


class TokenPair(Outbound, frozen=True):
    """`expires_in` is the life of the access token in seconds."""

    user: UserView
    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "Bearer"


class SessionView(Outbound, frozen=True):
    """A login. It was used last when it began, or when its refresh token was exchanged."""

    id: str
    created_at: WireTime
    last_used_at: WireTime
    address: str
    user_agent: str
    is_current: bool


class SessionList(Outbound, frozen=True):
    sessions: list[SessionView]


class BlockedPeople(Outbound, frozen=True):
    users: list[UserView]
    total: int


class SearchResult(Outbound, frozen=True):
    users: list[UserView]
    total: int


class NoticeView(Outbound, frozen=True, omit_defaults=True):
    """What happened to the room. `user_ids` came, left or got `role`; `name` is its new one."""

    kind: NoticeKind
    user_ids: list[str] | None = None
    name: str | None = None
    role: Role | None = None


class QuoteView(Outbound, frozen=True):
    """The message that a reply answers, as it is now. `content` has its first 200 characters."""

    message_id: str
    seq: int
    sender_id: str
    sender_name: str
    content: str
    type: MessageType
    deleted_at: WireTime | msgspec.UnsetType = msgspec.UNSET


class ReactionView(Outbound, frozen=True):
    """`user_ids` has the first 20; `mine` is relative to the requesting user."""

    emoji: str
    count: int
    user_ids: list[str]
    mine: bool


class Forwarded(Outbound, frozen=True):
    sender_name: str


class MessageView(Outbound, frozen=True):
    """The only message shape. `is_read` is relative to the requesting user. What does not apply is left out."""

    message_id: str
    room_id: str
    seq: int
    client_message_id: str | None
    sender_id: str
    sender_name: str
    content: str
    type: MessageType
    message_type: MessageType
    attachment_url: str | None
    timestamp: WireTime
    is_read: bool
    notice: NoticeView | msgspec.UnsetType = msgspec.UNSET
    reply_to: QuoteView | msgspec.UnsetType = msgspec.UNSET
    mentions: list[str] | msgspec.UnsetType = msgspec.UNSET
    mentions_room: bool | msgspec.UnsetType = msgspec.UNSET
    forwarded_from: Forwarded | msgspec.UnsetType = msgspec.UNSET
    rev: int | msgspec.UnsetType = msgspec.UNSET
    edited_at: WireTime | msgspec.UnsetType = msgspec.UNSET
    deleted_at: WireTime | msgspec.UnsetType = msgspec.UNSET
    reactions: list[ReactionView] | msgspec.UnsetType = msgspec.UNSET
    pinned_at: WireTime | msgspec.UnsetType = msgspec.UNSET
    pinned_by: str | msgspec.UnsetType = msgspec.UNSET


class Pins(Outbound, frozen=True):
    """The pinned messages of a room, the latest pin first."""

    messages: list[MessageView]


class MemberView(Outbound, frozen=True):
    user_id: str
    last_delivered_seq: int
    last_read_seq: int
    role: Role
    joined_at: WireTime


class RoomView(Outbound, frozen=True):
    """A room as one of its members sees it. `members` has the first hundred: owners, admins, then by time."""

    id: str
    type: RoomType
    user1_id: str | None
    user2_id: str | None
    booking_id: str | None
    name: str | None
    description: str | None
    image: str | None
    visibility: Visibility
    history: HistoryMode
    member_count: int
    my_role: Role
    created_by: str
    created_at: WireTime
    last_seq: int
    last_rev: int
    last_message: MessageView | None
    members: list[MemberView]
    epoch: str


class OpenRoomView(Outbound, frozen=True):
    """A room that anybody may join, as those see it who may not be in it."""

    id: str
    type: RoomType
    name: str | None
    description: str | None
    image: str | None
    visibility: Visibility
    history: HistoryMode
    member_count: int
    created_by: str
    created_at: WireTime
    is_member: bool


class OpenRoomPage(Outbound, frozen=True):
    rooms: list[OpenRoomView]
    next_cursor: str | None


class ChatSettingsView(Outbound, frozen=True):
    """The user's own settings of a room. `muted_until` is a time, `FOREVER`, or null if it is not muted."""

    muted_until: str | None
    notify: Notify
    pinned: bool
    archived: bool


class ChatView(Outbound, frozen=True):
    """One entry of the chat list, relative to the requesting user."""

    chat_id: str
    type: RoomType
    participant_id: str | None
    participant_name: str
    participant_image: str | None
    last_seq: int
    last_rev: int
    last_message: str | None
    last_message_type: MessageType | None
    last_message_time: WireTime | None
    last_sender_name: str | None
    unread_count: int
    mention_count: int
    is_online: bool
    transaction_id: str | None
    settings: ChatSettingsView


class MemberLine(Outbound, frozen=True):
    user: UserView
    role: Role
    joined_at: WireTime
    last_read_seq: int
    last_delivered_seq: int


class MemberPage(Outbound, frozen=True):
    members: list[MemberLine]
    total: int
    next_cursor: str | None


class AddedMembers(Outbound, frozen=True):
    """Who came in, and the number of members now."""

    added: list[str]
    members: int


class ChatPage(Outbound, frozen=True):
    chats: list[ChatView]
    next_cursor: str | None


class UnreadSum(Outbound, frozen=True):
    """Of all rooms: the unread messages, those that mention the user, and the rooms that have any."""

    unread_count: int
    mention_count: int
    chats: int


class Pagination(Outbound, frozen=True):
    """`next_before` or `next_after` is set if the answer was cut for its size: where to continue."""

    current_page: int
    total_pages: int
    total_items: int
    has_next: bool
    has_prev: bool
    next_before: int | msgspec.UnsetType = msgspec.UNSET
    next_after: int | msgspec.UnsetType = msgspec.UNSET


class HistoryPage(Outbound, frozen=True):
    messages: list[EncodedMessage]
    pagination: Pagination


class ReadMark(Outbound, frozen=True):
    """The user's own read mark, the same over REST and in the ack of `message:read`."""

    room_id: str
    seq: int
    unread_count: int
    ok: Literal[True] = True


class Reader(Outbound, frozen=True):
    user_id: str


class ReceiptsView(Outbound, frozen=True):
    """How far a message got: the numbers of others who have it and have read it, and the first hundred of these."""

    read_count: int
    delivered_count: int
    read_by: list[Reader]


class PresenceView(Outbound, frozen=True):
    user_id: str
    is_online: bool
    last_seen_at: WireTime | None


class PresenceList(Outbound, frozen=True):
    presence: list[PresenceView]


class SyncedRoom(Outbound, frozen=True):
    """What one room has for this user beyond what they know.

    `changed` has the messages up to the `seq` of the request that have changed since its `rev`, in the order of their
    changes, and `last_rev` is where the client goes on. If `has_more` is set, there is more of either.
    """

    room_id: str
    messages: list[EncodedMessage]
    changed: list[EncodedMessage]
    last_seq: int
    last_rev: int
    unread_count: int
    has_more: bool


class SyncAnswer(Outbound, frozen=True):
    """`reset`: the numbers in the request, and what the client stored with them, belong to another history."""

    rooms: list[SyncedRoom]
    epoch: str
    reset: bool | msgspec.UnsetType = msgspec.UNSET


class UploadView(Outbound, frozen=True):
    """The answer of `POST /api/v1/upload`. `width`, `height` and `thumbnail_url` are set for pictures only."""

    file_id: str
    file_url: str
    file_name: str
    mime_type: str
    size: int
    type: SentType
    purpose: str | None
    width: int | msgspec.UnsetType = msgspec.UNSET
    height: int | msgspec.UnsetType = msgspec.UNSET
    thumbnail_url: str | msgspec.UnsetType = msgspec.UNSET


class Liveness(Outbound, frozen=True):
    status: Literal["ok"] = "ok"


class Readiness(Outbound, frozen=True):
    """`missing` names what does not answer."""

    status: Literal["ok", "unavailable"]
    missing: list[str]


class PageSettings(Outbound, frozen=True):
    """What the browser client needs to know before anybody has logged in."""

    load_remote_images: bool
    registration: Literal["open", "invite", "closed"]


class Ack(Outbound, frozen=True, kw_only=True):
    """The acknowledgement of a client's event that succeeded."""

    ok: Literal[True] = True


class MessageAck(Ack, frozen=True):
    """The message as it now stands."""

    message: MessageView


class RoomAck(Ack, frozen=True):
    room: RoomView
    last_seq: int


class ChatSettingsAck(Ack, frozen=True):
    settings: ChatSettingsView


class BlockedAck(Ack, frozen=True):
    users: list[UserView]
    total: int


class SessionsAck(Ack, frozen=True):
    sessions: list[SessionView]


class PresenceAck(Ack, frozen=True):
    presence: list[PresenceView]


class SyncAck(Ack, frozen=True):
    """As the answer of `POST /api/v1/messages/sync`."""

    rooms: list[SyncedRoom]
    epoch: str
    reset: bool | msgspec.UnsetType = msgspec.UNSET


class RenewalAck(Ack, frozen=True):
    expires_at: WireTime


class Refusal(Outbound, frozen=True):
    """The acknowledgement of a client's event that failed."""

    error: ErrorView
    ok: Literal[False] = False


def wire_time(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and `Z`."""
    # Cuts off the offset, which is always +00:00. Takes half the time of `strftime`.
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"


def to_wire(value: Any) -> Any:
    """Convert outbound shapes to plain JSON types."""
    return msgspec.to_builtins(value)
