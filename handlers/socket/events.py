"""The table of client events: the operation of each, how its payload is read, and the content of its ack."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

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
from server.operations.operation import Operation
from server.operations.people import GET_PRESENCE, RENEW_CONNECTION
from server.operations.rooms import ENTER_ROOM, EXIT_ROOM, START_TYPING, STOP_TYPING
from server.protocol import (
    MESSAGE_DELIVERED,
    MESSAGE_READ,
    TYPING_START,
    TYPING_STOP,
    MessageView,
    RoomView,
    SyncAnswer,
    to_wire,
)
from server.requests import (
    Edit,
    Inbound,
    MessageRef,
    Pin,
    PresenceQuery,
    React,
    RoomRef,
    SendMessage,
    SyncRequest,
    TokenRef,
)

Answer = dict[str, Any]


class Event(NamedTuple):
    """`payload` is the type that clients send; `to_request` makes the operation's request of it, if that differs.

    `to_answer` makes the content of the ack of the operation's reply.
    """

    operation: Operation[Any, Any]
    payload: type[Inbound]
    to_answer: Callable[[Any], Answer] = lambda _reply: {}
    to_request: Callable[[Any], Any] | None = None


def _answer_sync(answer: SyncAnswer) -> Answer:
    return {"epoch": answer.epoch, "rooms": answer.rooms} | ({"reset": True} if answer.reset is True else {})


def _answer_message(message: MessageView) -> Answer:
    return {"message": message}


def _answer_room(room: RoomView) -> Answer:
    return {"room": room, "lastSeq": room.last_seq}


EVENTS: Final[Mapping[str, Event]] = {
    "message:send": Event(SEND, SendMessage),
    MESSAGE_READ: Event(
        MARK_READ, MessageRef, lambda mark: dict(to_wire(mark)), lambda payload: RoomMessage(payload.message_id)
    ),
    MESSAGE_DELIVERED: Event(MARK_DELIVERED, MessageRef),
    "message:edit": Event(EDIT, Edit, _answer_message),
    "message:delete": Event(DELETE, MessageRef, _answer_message),
    "message:react": Event(REACT, React, _answer_message),
    "message:pin": Event(PIN, Pin, _answer_message),
    TYPING_START: Event(START_TYPING, RoomRef),
    TYPING_STOP: Event(STOP_TYPING, RoomRef),
    "room:join": Event(ENTER_ROOM, RoomRef, _answer_room),
    "room:leave": Event(EXIT_ROOM, RoomRef),
    "presence:get": Event(GET_PRESENCE, PresenceQuery, lambda presence: {"presence": presence}),
    "sync": Event(SYNC, SyncRequest, _answer_sync),
    "auth:refresh": Event(RENEW_CONNECTION, TokenRef, lambda expires_at: {"expiresAt": expires_at}),
}
