"""The table of client events: the operation of each, how its payload is read, and the content of its ack."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from server.events import MESSAGE_DELIVERED, MESSAGE_READ, TYPING_START, TYPING_STOP
from server.operations.messages import (
    DELETE,
    EDIT,
    MARK_DELIVERED,
    MARK_READ,
    PIN,
    REACT,
    SEND,
    SYNC,
    RoomMessage,
)
from server.operations.operation import NOTHING, Nothing, Operation
from server.operations.people import END_SESSION, GET_PRESENCE, LIST_SESSIONS, RENEW_CONNECTION
from server.operations.rooms import ENTER_ROOM, EXIT_ROOM, START_TYPING, STOP_TYPING
from server.operations.safety import BLOCK, CHANGE_SETTINGS, LIST_BLOCKED, REPORT, UNBLOCK
from server.protocol import (
    Ack,
    BlockedAck,
    ChatSettingsAck,
    MessageAck,
    MessageView,
    Outbound,
    PresenceAck,
    ReadMark,
    RenewalAck,
    RoomAck,
    SessionsAck,
    SyncAck,
)
from server.requests import (
    ChatSettingsPatch,
    Edit,
    Inbound,
    MessageRef,
    MessageReport,
    NoInput,
    Pin,
    PresenceQuery,
    React,
    RoomRef,
    SendMessage,
    SessionRef,
    SyncRequest,
    TokenRef,
    UserRef,
)


class Event(NamedTuple):
    """`payload` is the type that clients send; `to_request` makes the operation's request of it, if that differs.

    `to_ack` makes the ack, of the type `ack`, of the operation's reply.
    """

    operation: Operation[Any, Any]
    payload: type[Inbound]
    ack: type[Outbound] = Ack
    to_ack: Callable[[Any], Outbound] = lambda _reply: Ack()
    to_request: Callable[[Any], Any] | None = None


def _ack_message(message: MessageView) -> MessageAck:
    return MessageAck(message)


def _nothing(_payload: NoInput) -> Nothing:
    return NOTHING


EVENTS: Final[Mapping[str, Event]] = {
    "message:send": Event(SEND, SendMessage, MessageAck, _ack_message),
    MESSAGE_READ: Event(
        MARK_READ, MessageRef, ReadMark, lambda mark: mark, lambda payload: RoomMessage(payload.message_id)
    ),
    MESSAGE_DELIVERED: Event(MARK_DELIVERED, MessageRef),
    "message:edit": Event(EDIT, Edit, MessageAck, _ack_message),
    "message:delete": Event(DELETE, MessageRef, MessageAck, _ack_message),
    "message:react": Event(REACT, React, MessageAck, _ack_message),
    "message:pin": Event(PIN, Pin, MessageAck, _ack_message),
    "message:report": Event(REPORT, MessageReport),
    "chat:settings": Event(CHANGE_SETTINGS, ChatSettingsPatch, ChatSettingsAck, ChatSettingsAck),
    "user:block": Event(BLOCK, UserRef),
    "user:unblock": Event(UNBLOCK, UserRef),
    "blocked:get": Event(
        LIST_BLOCKED, NoInput, BlockedAck, lambda people: BlockedAck(people.users, people.total), _nothing
    ),
    "sessions:get": Event(LIST_SESSIONS, NoInput, SessionsAck, lambda listed: SessionsAck(listed.sessions), _nothing),
    "session:end": Event(END_SESSION, SessionRef),
    TYPING_START: Event(START_TYPING, RoomRef),
    TYPING_STOP: Event(STOP_TYPING, RoomRef),
    "room:join": Event(ENTER_ROOM, RoomRef, RoomAck, lambda room: RoomAck(room, room.last_seq)),
    "room:leave": Event(EXIT_ROOM, RoomRef),
    "presence:get": Event(GET_PRESENCE, PresenceQuery, PresenceAck, lambda listed: PresenceAck(listed.presence)),
    "sync": Event(SYNC, SyncRequest, SyncAck, lambda answer: SyncAck(answer.rooms, answer.epoch, answer.reset)),
    "auth:refresh": Event(RENEW_CONNECTION, TokenRef, RenewalAck, RenewalAck),
}
