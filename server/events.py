"""Events that the server sends: their names, and what each carries."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from server.errors import ErrorView
from server.models import ChangeKind, Role
from server.protocol import ChatSettingsView, EncodedMessage, MessageView, Outbound, RoomView, WireTime

MESSAGE_NEW: Final = "message:new"
MESSAGES_OFFLINE: Final = "messages:offline"
MESSAGE_READ: Final = "message:read"
MESSAGE_DELIVERED: Final = "message:delivered"
MESSAGE_CHANGED: Final = "message:changed"
TYPING_START: Final = "typing:start"
TYPING_STOP: Final = "typing:stop"
USER_ONLINE: Final = "user:online"
USER_OFFLINE: Final = "user:offline"
ROOM_NEW: Final = "room:new"
ROOM_CHANGED: Final = "room:changed"
ROOM_REMOVED: Final = "room:removed"
MEMBER_CHANGED: Final = "member:changed"
CHAT_SETTINGS: Final = "chat:settings"
USER_BLOCKED: Final = "user:blocked"
EXCEPTION: Final = "exception"


class Receipt(Outbound, frozen=True):
    """Somebody has read, or got, everything up to `seq` of the room."""

    room_id: str
    message_id: str
    seq: int
    user_id: str
    at: WireTime


class ChangedView(Outbound, frozen=True):
    """A message after a change. Who has another `rev` than `prev_rev` has missed something."""

    room_id: str
    rev: int
    prev_rev: int
    kind: ChangeKind
    by: str
    message: MessageView


class WhoTypes(Outbound, frozen=True):
    """Somebody types in a room, or no longer does."""

    room_id: str
    user_id: str


class UserOnline(Outbound, frozen=True):
    """The first socket of somebody who shares a room connected."""

    user_id: str


class UserOffline(Outbound, frozen=True):
    """The last socket of somebody who shares a room is gone, and none came back within the grace time."""

    user_id: str
    last_seen_at: WireTime


class RoomChanged(Outbound, frozen=True):
    """The details of a room have changed."""

    room: RoomView


class RoomRemoved(Outbound, frozen=True):
    """The room is no longer one's own: the last event of it."""

    room_id: str
    reason: Literal["LEFT", "REMOVED", "DELETED"]


class MemberChanged(Outbound, frozen=True):
    """A member of a room came, has another role, or, with null, is gone."""

    room_id: str
    user_id: str
    role: Role | None


class ChatSettingsChanged(Outbound, frozen=True):
    """The user has changed their own settings of a room, on another socket."""

    room_id: str
    settings: ChatSettingsView


class BlockChanged(Outbound, frozen=True):
    """The user has blocked somebody, or no longer does, on another socket."""

    user_id: str
    is_blocked: bool


class ServerEvent(msgspec.Struct, frozen=True):
    """What an event carries, and when it comes. `is_acked`: the server asks the client for an ack."""

    payload: Any
    summary: str
    is_acked: bool = False


OfflineBatch = Annotated[list[EncodedMessage], msgspec.Meta(description="The oldest first in each room.")]

SERVER_EVENTS: Final[Mapping[str, ServerEvent]] = {
    MESSAGE_NEW: ServerEvent(MessageView, "A message was stored just now; once to every socket of every member."),
    MESSAGES_OFFLINE: ServerEvent(
        OfflineBatch, "After a connect, if the offline queue holds something: what came meanwhile.", is_acked=True
    ),
    MESSAGE_READ: ServerEvent(Receipt, "Somebody has read a message and all before it."),
    MESSAGE_DELIVERED: ServerEvent(Receipt, "Somebody has got a message and all before it."),
    MESSAGE_CHANGED: ServerEvent(ChangedView, "A message was edited, deleted, pinned, or got a reaction."),
    TYPING_START: ServerEvent(WhoTypes, "Somebody else types in a room."),
    TYPING_STOP: ServerEvent(WhoTypes, "They stopped, sent their message, or went away."),
    USER_ONLINE: ServerEvent(UserOnline, "Somebody who shares a room is here."),
    USER_OFFLINE: ServerEvent(UserOffline, "They are gone."),
    ROOM_NEW: ServerEvent(RoomView, "Somebody else made a room with this user, or brought them into one."),
    ROOM_CHANGED: ServerEvent(RoomChanged, "The name or another detail of a room is new."),
    ROOM_REMOVED: ServerEvent(RoomRemoved, "This user is no longer in the room, or it is gone."),
    MEMBER_CHANGED: ServerEvent(MemberChanged, "A member came, went, or has another role."),
    CHAT_SETTINGS: ServerEvent(ChatSettingsChanged, "This user changed their own settings of a room elsewhere."),
    USER_BLOCKED: ServerEvent(BlockChanged, "This user blocked somebody elsewhere, or lifted that."),
    EXCEPTION: ServerEvent(
        ErrorView, "An event without an ack has failed, or the server is about to end the connection."
    ),
}
