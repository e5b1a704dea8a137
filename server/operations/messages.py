"""Operations on messages: history, sync, sending, receipts and changes."""

from typing import Any, Final, NamedTuple

from server.context import Context
from server.operations.operation import (
    CHANGE_ERRORS,
    NOT_FOUND,
    NOTHING,
    Caller,
    Limit,
    Made,
    Nothing,
    Operation,
    Placed,
)
from server.protocol import HistoryPage, MessageView, Pins, ReadMark, ReceiptsView, SyncAnswer
from server.requests import Edit, HistoryQuery, MessageRef, Pin, React, RoomRef, SendMessage, SyncRequest


class RoomHistory(NamedTuple):
    room_id: str
    query: HistoryQuery


class RoomMessage(NamedTuple):
    """A message, and the room that it must be in if that is given."""

    message_id: str
    room_id: str = ""


async def _read_history(context: Context, caller: Caller, request: RoomHistory) -> HistoryPage:
    return await context.history.read_page(caller.user_id, request.room_id, request.query)


async def _sync(context: Context, caller: Caller, request: SyncRequest) -> SyncAnswer:
    return await context.sync.catch_up(caller.user_id, request)


async def _send(context: Context, _caller: Caller, admitted: Any) -> Made:
    return Made(*await context.messages.store(admitted))


async def _mark_read(context: Context, caller: Caller, request: RoomMessage) -> ReadMark:
    return await context.receipts.mark_read(
        caller.user_id, request.message_id, room_id=request.room_id, skip=caller.connection
    )


async def _mark_delivered(context: Context, caller: Caller, request: MessageRef) -> Nothing:
    await context.receipts.mark_delivered(caller.user_id, request.message_id, skip=caller.connection)
    return NOTHING


async def _edit(context: Context, caller: Caller, request: Edit) -> MessageView:
    return await context.changes.edit(caller.user_id, request)


async def _delete(context: Context, caller: Caller, request: MessageRef) -> MessageView:
    return await context.changes.delete(caller.user_id, request.message_id)


async def _react(context: Context, caller: Caller, request: React) -> MessageView:
    return await context.changes.react(caller.user_id, request)


async def _pin(context: Context, caller: Caller, request: Pin) -> MessageView:
    return await context.changes.pin(caller.user_id, request)


async def _list_pins(context: Context, caller: Caller, request: RoomRef) -> Pins:
    return await context.changes.list_pins(caller.user_id, request.room_id)


async def _list_receipts(context: Context, caller: Caller, request: MessageRef) -> ReceiptsView:
    return await context.receipts.list_receipts(caller.user_id, request.message_id)


READ_HISTORY: Final = Operation(
    "messages.read_history",
    "The messages of a room: by pages, or before or after a number",
    "messages:read",
    RoomHistory,
    HistoryPage,
    _read_history,
    NOT_FOUND,
    Limit.READS,
)
SYNC: Final = Operation(
    "messages.sync",
    "What was missed in all rooms since the numbers that one knows",
    "messages:read",
    SyncRequest,
    SyncAnswer,
    _sync,
    NOT_FOUND,
    Limit.READS,
)
SEND: Final = Operation(
    "messages.send",
    "Send a message",
    "messages:write",
    SendMessage,
    MessageView,
    _send,
    CHANGE_ERRORS,
    Limit.MESSAGES,
    check=lambda context, caller, request: context.messages.check(caller.user_id, request),
    placed=Placed(
        lambda context, admitted: context.messages.place(admitted),
        lambda context, admitted: context.messages.place_now(admitted),
    ),
)
MARK_READ: Final = Operation(
    "messages.mark_read",
    "Mark a message and all before it as read",
    "messages:read",
    RoomMessage,
    ReadMark,
    _mark_read,
    NOT_FOUND,
)
MARK_DELIVERED: Final = Operation(
    "messages.mark_delivered",
    "Mark a message and all before it as delivered",
    "messages:read",
    MessageRef,
    Nothing,
    _mark_delivered,
    NOT_FOUND,
)
EDIT: Final = Operation(
    "messages.edit", "Edit one's message", "messages:write", Edit, MessageView, _edit, CHANGE_ERRORS, Limit.MESSAGES
)
DELETE: Final = Operation(
    "messages.delete",
    "Delete a message",
    "messages:write",
    MessageRef,
    MessageView,
    _delete,
    CHANGE_ERRORS,
    Limit.MESSAGES,
)
REACT: Final = Operation(
    "messages.react",
    "Give a reaction, or take it back",
    "messages:write",
    React,
    MessageView,
    _react,
    CHANGE_ERRORS,
    Limit.MESSAGES,
)
PIN: Final = Operation(
    "messages.pin",
    "Pin a message, or unpin it",
    "messages:write",
    Pin,
    MessageView,
    _pin,
    CHANGE_ERRORS,
    Limit.MESSAGES,
)
LIST_PINS: Final = Operation(
    "messages.list_pins",
    "The pinned messages of a room",
    "messages:read",
    RoomRef,
    Pins,
    _list_pins,
    NOT_FOUND,
    Limit.READS,
)
LIST_RECEIPTS: Final = Operation(
    "messages.list_receipts",
    "Who has got and who has read a message",
    "messages:read",
    MessageRef,
    ReceiptsView,
    _list_receipts,
    NOT_FOUND,
    Limit.READS,
)
