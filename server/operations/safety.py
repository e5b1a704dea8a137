"""Operations by which people protect themselves: own settings of rooms, blocks and reports."""

from typing import Final

from server.context import Context
from server.errors import Conflict, NotFound
from server.operations.operation import NOT_FOUND, NOTHING, Caller, Limit, Nothing, Operation
from server.protocol import BlockedPeople, ChatSettingsView
from server.requests import ChatSettingsPatch, MessageReport, UserRef

ACCESS_ERRORS: Final = frozenset({Conflict, NotFound})


async def _change_settings(context: Context, caller: Caller, request: ChatSettingsPatch) -> ChatSettingsView:
    return await context.chat_settings.change(caller.user_id, request, caller.connection)


async def _block(context: Context, caller: Caller, request: UserRef) -> Nothing:
    await context.blocking.block(caller.user_id, request.user_id, caller.connection)
    return NOTHING


async def _unblock(context: Context, caller: Caller, request: UserRef) -> Nothing:
    await context.blocking.unblock(caller.user_id, request.user_id, caller.connection)
    return NOTHING


async def _list_blocked(context: Context, caller: Caller, _request: Nothing) -> BlockedPeople:
    return await context.blocking.list_blocked(caller.user_id)


async def _report(context: Context, caller: Caller, request: MessageReport) -> Nothing:
    await context.reports.report(caller.user_id, request)
    return NOTHING


CHANGE_SETTINGS: Final = Operation(
    "rooms.change_settings",
    "Mute, pin or archive a room for oneself",
    "rooms:read",
    ChatSettingsPatch,
    ChatSettingsView,
    _change_settings,
    NOT_FOUND,
    Limit.MESSAGES,
)
BLOCK: Final = Operation(
    "users.block",
    "Block somebody: neither hears from the other any more",
    "profile:write",
    UserRef,
    Nothing,
    _block,
    ACCESS_ERRORS,
    Limit.MESSAGES,
)
UNBLOCK: Final = Operation(
    "users.unblock", "Lift a block", "profile:write", UserRef, Nothing, _unblock, limit=Limit.MESSAGES
)
LIST_BLOCKED: Final = Operation(
    "users.list_blocked",
    "The people whom one has blocked",
    "users:read",
    Nothing,
    BlockedPeople,
    _list_blocked,
    limit=Limit.READS,
)
REPORT: Final = Operation(
    "messages.report",
    "Report a message to the admins",
    "messages:read",
    MessageReport,
    Nothing,
    _report,
    ACCESS_ERRORS,
    Limit.MESSAGES,
)
