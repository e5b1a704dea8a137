"""The wire contract in one place: event names, inbound payloads, outbound shapes."""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from server.models import HistoryMode, MessageType, NoticeKind, Role, RoomType, SentType, Visibility

NAMESPACE: Final = "/chat"

MESSAGE_NEW: Final = "message:new"
MESSAGES_OFFLINE: Final = "messages:offline"
MESSAGE_READ: Final = "message:read"
MESSAGE_DELIVERED: Final = "message:delivered"
TYPING_START: Final = "typing:start"
TYPING_STOP: Final = "typing:stop"
USER_ONLINE: Final = "user:online"
USER_OFFLINE: Final = "user:offline"
ROOM_NEW: Final = "room:new"
ROOM_CHANGED: Final = "room:changed"
ROOM_REMOVED: Final = "room:removed"
MEMBER_CHANGED: Final = "member:changed"
EXCEPTION: Final = "exception"

# Ids are opaque; the bound is far above any that this server or a sensible token issuer makes.
Id = Annotated[str, Meta(min_length=1, max_length=128)]
# JSON numbers stay exact up to 2**53, and the store's integers reach further.
Seq = Annotated[int, Meta(ge=0, le=2**53)]
Page = Annotated[int, Meta(ge=1, le=2**31)]
UserIds = Annotated[list[Id], Meta(max_length=100)]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]


class Inbound(msgspec.Struct, frozen=True, rename="camel"):
    """A payload from a client. Unknown fields are ignored, wrong types are `VALIDATION_FAILED`."""


class Registration(Inbound, frozen=True):
    email: str
    password: str
    first_name: str
    last_name: str
    phone: str | None = None
    user_type: str | None = None
    profile_image: str | None = None


class Login(Inbound, frozen=True):
    email: str
    password: str


class Refresh(Inbound, frozen=True):
    refresh_token: str


class ProfilePatch(Inbound, frozen=True):
    """Fields left out stay as they are; `null` clears the two that may be empty."""

    first_name: str | msgspec.UnsetType = msgspec.UNSET
    last_name: str | msgspec.UnsetType = msgspec.UNSET
    phone: str | None | msgspec.UnsetType = msgspec.UNSET
    profile_image: str | None | msgspec.UnsetType = msgspec.UNSET


class SearchQuery(Inbound, frozen=True):
    q: Annotated[str, Meta(min_length=1, max_length=100)]
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class RoomKind(Inbound, frozen=True):
    """What kind of room a request is for, and with that, how the rest of it is read."""

    type: RoomType = "DIRECT"


class RoomRequest(Inbound, frozen=True):
    """A direct room with somebody."""

    other_user_id: Id
    booking_id: Id | None = None


class GroupRequest(Inbound, frozen=True):
    """A group of its maker and `user_ids`."""

    name: str
    description: str | None = None
    image: str | None = None
    visibility: Visibility = "PRIVATE"
    history: HistoryMode | None = None
    user_ids: UserIds = msgspec.field(default_factory=list)
    client_room_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class RoomPatch(Inbound, frozen=True):
    """Fields left out stay as they are; `null` clears the two that may be empty."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    description: str | None | msgspec.UnsetType = msgspec.UNSET
    image: str | None | msgspec.UnsetType = msgspec.UNSET
    visibility: Visibility | msgspec.UnsetType = msgspec.UNSET
    history: HistoryMode | msgspec.UnsetType = msgspec.UNSET


class NewMembers(Inbound, frozen=True):
    user_ids: UserIds


class NewRole(Inbound, frozen=True):
    role: Role


class MembersQuery(Inbound, frozen=True):
    q: Annotated[str, Meta(max_length=100)] = ""
    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    cursor: Annotated[str, Meta(max_length=256)] | None = None


class ChatsQuery(Inbound, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    cursor: Annotated[str, Meta(max_length=256)] | None = None


class HistoryQuery(Inbound, frozen=True):
    page: Page | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    before: Seq | None = None
    after: Seq | None = None


class SendMessage(Inbound, frozen=True):
    """`message:send`; over REST the room comes from the path."""

    room_id: Id
    content: str | None = None
    type: SentType | None = None
    message_type: SentType | None = None
    attachment_url: Url | None = None
    client_message_id: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class MessageRef(Inbound, frozen=True):
    message_id: Id


class RoomRef(Inbound, frozen=True):
    room_id: Id


class UserRef(Inbound, frozen=True):
    user_id: Id


class PresenceQuery(Inbound, frozen=True):
    user_ids: Annotated[list[Id], Meta(max_length=200)]


class SyncRequest(Inbound, frozen=True):
    """`rooms` maps ids to the last known `seq`; `epoch` came with the answer or room that gave these numbers."""

    rooms: Annotated[dict[Id, Seq], Meta(max_length=5_000)]
    epoch: Annotated[str, Meta(max_length=128)] | None = None


class TokenRef(Inbound, frozen=True):
    token: str


class Outbound(msgspec.Struct, frozen=True, rename="camel"):
    """A shape that goes to clients, in camelCase."""


class UserView(Outbound, frozen=True):
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
    last_seen_at: str | None


class TokenPair(Outbound, frozen=True):
    """`expires_in` is the life of the access token in seconds."""

    user: UserView
    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "Bearer"


class SearchResult(Outbound, frozen=True):
    users: list[UserView]
    total: int


class NoticeView(Outbound, frozen=True, omit_defaults=True):
    """What happened to the room. `user_ids` came, left or got `role`; `name` is its new one."""

    kind: NoticeKind
    user_ids: list[str] | None = None
    name: str | None = None
    role: Role | None = None


class MessageView(Outbound, frozen=True):
    """The only message shape. `is_read` is relative to the requesting user."""

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
    timestamp: str
    is_read: bool
    notice: NoticeView | msgspec.UnsetType = msgspec.UNSET


class MemberView(Outbound, frozen=True):
    user_id: str
    last_delivered_seq: int
    last_read_seq: int
    role: Role
    joined_at: str


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
    created_at: str
    last_seq: int
    last_message: MessageView | None
    members: list[MemberView]
    epoch: str


class ChatView(Outbound, frozen=True):
    """One entry of the chat list, relative to the requesting user."""

    chat_id: str
    type: RoomType
    participant_id: str | None
    participant_name: str
    participant_image: str | None
    last_seq: int
    last_message: str | None
    last_message_type: MessageType | None
    last_message_time: str | None
    last_sender_name: str | None
    unread_count: int
    is_online: bool
    transaction_id: str | None


class MemberLine(Outbound, frozen=True):
    user: UserView
    role: Role
    joined_at: str
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
    """`messages` are `MessageView`s, already encoded as JSON."""

    messages: list[msgspec.Raw]
    pagination: Pagination


class ReadMark(Outbound, frozen=True):
    """The user's own read mark, the same over REST and in the ack of `message:read`."""

    room_id: str
    seq: int
    unread_count: int
    ok: bool = True


class Receipt(Outbound, frozen=True):
    """`message:read` and `message:delivered`: everything up to `seq` of the room."""

    room_id: str
    message_id: str
    seq: int
    user_id: str
    at: str


class PresenceView(Outbound, frozen=True):
    user_id: str
    is_online: bool
    last_seen_at: str | None


class SyncedRoom(Outbound, frozen=True):
    """`messages` are `MessageView`s, already encoded as JSON."""

    room_id: str
    messages: list[msgspec.Raw]
    last_seq: int
    unread_count: int
    has_more: bool


class SyncAnswer(Outbound, frozen=True):
    """`reset`: the numbers in the request, and what the client stored with them, belong to another history."""

    rooms: list[SyncedRoom]
    epoch: str
    reset: bool


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


def wire_time(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and `Z`."""
    # Cuts off the offset, which is always +00:00. Takes half the time of `strftime`.
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"


def to_wire(value: Any) -> Any:
    """Convert outbound shapes to plain JSON types."""
    return msgspec.to_builtins(value)
