"""The table of client events: the payload type of each, and the handler that returns the content of its ack."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from server.context import Context
from server.errors import Forbidden, Unauthorized
from server.protocol import (
    MESSAGE_DELIVERED,
    MESSAGE_READ,
    TYPING_START,
    TYPING_STOP,
    Inbound,
    MessageRef,
    PresenceQuery,
    RoomRef,
    SendMessage,
    SyncRequest,
    TokenRef,
    to_wire,
    wire_time,
)
from server.realtime.connection import Connection
from server.services.room_log.pending import PendingMessage
from server.services.room_log.send import Admitted

Answer = dict[str, Any]


class Event(NamedTuple):
    """The payload type of an event and its handler, which returns the answer, or a pending message for a send."""

    payload: type[Inbound]
    handle: Callable[[Context, Connection, Any], Awaitable[Answer | PendingMessage]]


async def send_message(context: Context, _connection: Connection, admitted: Admitted) -> PendingMessage:
    return await context.messages.place(admitted)


async def mark_read(context: Context, connection: Connection, payload: MessageRef) -> Answer:
    mark = await context.receipts.mark_read(connection.user_id, payload.message_id, skip=connection)
    return dict(to_wire(mark))


async def mark_delivered(context: Context, connection: Connection, payload: MessageRef) -> Answer:
    await context.receipts.mark_delivered(connection.user_id, payload.message_id, skip=connection)
    return {}


async def start_typing(context: Context, connection: Connection, payload: RoomRef) -> Answer:
    await context.typing.start(connection.user_id, payload.room_id)
    return {}


async def stop_typing(context: Context, connection: Connection, payload: RoomRef) -> Answer:
    await context.typing.stop(connection.user_id, payload.room_id)
    return {}


async def join_room(context: Context, connection: Connection, payload: RoomRef) -> Answer:
    """Answer with the room's current state. Members get its events without joining."""
    room = await context.chat_list.get_room(connection.user_id, payload.room_id)
    return {"room": room, "lastSeq": room.last_seq}


async def leave_room(context: Context, connection: Connection, payload: RoomRef) -> Answer:
    await context.rooms.access_room(connection.user_id, payload.room_id)
    return {}


async def get_presence(context: Context, _connection: Connection, payload: PresenceQuery) -> Answer:
    return {"presence": await context.presence.query(payload)}


async def sync(context: Context, connection: Connection, payload: SyncRequest) -> Answer:
    answer = await context.history.sync(connection.user_id, payload)
    return {"epoch": answer.epoch, "rooms": answer.rooms} | ({"reset": True} if answer.reset else {})


async def refresh_auth(context: Context, connection: Connection, payload: TokenRef) -> Answer:
    """Continue the connection under a new token of the same user."""
    principal = await context.authenticators.authenticate(payload.token)
    if principal.user_id != connection.user_id:
        raise Forbidden("The token is for another user")
    if context.accounts.has_ended(principal):
        # It ended after authentication, while this connection did not belong to it yet.
        raise Unauthorized("The session has ended")
    context.hub.renew(connection, principal)
    return {"expiresAt": wire_time(datetime.fromtimestamp(principal.expires_at, UTC))}


EVENTS: Final[Mapping[str, Event]] = {
    "message:send": Event(SendMessage, send_message),
    MESSAGE_READ: Event(MessageRef, mark_read),
    MESSAGE_DELIVERED: Event(MessageRef, mark_delivered),
    TYPING_START: Event(RoomRef, start_typing),
    TYPING_STOP: Event(RoomRef, stop_typing),
    "room:join": Event(RoomRef, join_room),
    "room:leave": Event(RoomRef, leave_room),
    "presence:get": Event(PresenceQuery, get_presence),
    "sync": Event(SyncRequest, sync),
    "auth:refresh": Event(TokenRef, refresh_auth),
}
