"""The table of client events: the operation of each, how its payload is read, and the content of its ack."""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from server.operations.operation import Operation
from server.operations.table import (
    ENTER_ROOM,
    EXIT_ROOM,
    GET_PRESENCE,
    MARK_DELIVERED,
    MARK_READ,
    RENEW_CONNECTION,
    SEND,
    START_TYPING,
    STOP_TYPING,
    SYNC,
    RoomMessage,
)
from server.protocol import (
    MESSAGE_DELIVERED,
    MESSAGE_READ,
    TYPING_START,
    TYPING_STOP,
    Inbound,
    MessageRef,
    PresenceQuery,
    RoomRef,
    RoomView,
    SendMessage,
    SyncAnswer,
    SyncRequest,
    TokenRef,
    to_wire,
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
    return {"epoch": answer.epoch, "rooms": answer.rooms} | ({"reset": True} if answer.reset else {})


def _answer_room(room: RoomView) -> Answer:
    return {"room": room, "lastSeq": room.last_seq}


EVENTS: Final[Mapping[str, Event]] = {
    "message:send": Event(SEND, SendMessage),
    MESSAGE_READ: Event(
        MARK_READ, MessageRef, lambda mark: dict(to_wire(mark)), lambda payload: RoomMessage(payload.message_id)
    ),
    MESSAGE_DELIVERED: Event(MARK_DELIVERED, MessageRef),
    TYPING_START: Event(START_TYPING, RoomRef),
    TYPING_STOP: Event(STOP_TYPING, RoomRef),
    "room:join": Event(ENTER_ROOM, RoomRef, _answer_room),
    "room:leave": Event(EXIT_ROOM, RoomRef),
    "presence:get": Event(GET_PRESENCE, PresenceQuery, lambda presence: {"presence": presence}),
    "sync": Event(SYNC, SyncRequest, _answer_sync),
    "auth:refresh": Event(RENEW_CONNECTION, TokenRef, lambda expires_at: {"expiresAt": expires_at}),
}
