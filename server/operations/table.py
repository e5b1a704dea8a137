"""The table of operations: every verb of the server, once. Routes and events map to these."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, cast

from server.context import Context
from server.errors import (
    Conflict,
    Forbidden,
    NotFound,
    PayloadTooLarge,
    RangeNotSatisfiable,
    Unauthorized,
    UnsupportedMediaType,
)
from server.operations.operation import Caller, Limit, Made, Operation, Placed
from server.protocol import (
    AddedMembers,
    ChatPage,
    ChatsQuery,
    GroupRequest,
    HistoryPage,
    HistoryQuery,
    Login,
    MemberPage,
    MembersQuery,
    MessageRef,
    MessageView,
    NewMembers,
    NewRole,
    PresenceQuery,
    PresenceView,
    ProfilePatch,
    ReadMark,
    Refresh,
    Registration,
    RoomPatch,
    RoomRef,
    RoomRequest,
    RoomView,
    SearchQuery,
    SearchResult,
    SendMessage,
    SyncAnswer,
    SyncRequest,
    TokenPair,
    TokenRef,
    UploadView,
    UserRef,
    UserView,
    wire_time,
)


class Nothing(NamedTuple):
    """The request of an operation that takes nothing, and the reply of one that gives nothing."""


class RoomHistory(NamedTuple):
    room_id: str
    query: HistoryQuery


class RoomMessage(NamedTuple):
    """A message, and the room that it must be in if that is given."""

    message_id: str
    room_id: str = ""


class RoomChange(NamedTuple):
    room_id: str
    patch: RoomPatch


class RoomMembers(NamedTuple):
    room_id: str
    query: MembersQuery


class Invitation(NamedTuple):
    room_id: str
    members: NewMembers


class RoomMember(NamedTuple):
    """A member of a room; `me` is the caller."""

    room_id: str
    member_id: str


class RoleChange(NamedTuple):
    room_id: str
    member_id: str
    change: NewRole


NOTHING: Final = Nothing()
_NOT_FOUND: Final = frozenset({NotFound})
_CHANGE_ERRORS: Final = frozenset({Conflict, NotFound})


async def _register(context: Context, caller: Caller, request: Registration) -> TokenPair:
    return await context.accounts.register(request, caller.address)


async def _log_in(context: Context, caller: Caller, request: Login) -> TokenPair:
    return await context.accounts.login(request, caller.address)


async def _refresh(context: Context, caller: Caller, request: Refresh) -> TokenPair:
    return await context.accounts.refresh(request, caller.address)


async def _log_out(context: Context, caller: Caller, _request: Nothing) -> Nothing:
    if caller.principal is not None:
        await context.accounts.logout(caller.principal)
    return NOTHING


async def _renew_connection(context: Context, caller: Caller, request: TokenRef) -> str:
    """Continue the connection under a new token of the same user. Returns when that expires."""
    principal, connection = await context.authenticators.authenticate(request.token), caller.connection
    if connection is None or principal.user_id != connection.user_id:
        raise Forbidden("The token is for another user")
    if context.accounts.has_ended(principal):
        # It ended after authentication, while this connection did not belong to it yet.
        raise Unauthorized("The session has ended")
    context.hub.renew(connection, principal)
    return wire_time(datetime.fromtimestamp(principal.expires_at, UTC))


async def _get_own_profile(context: Context, caller: Caller, _request: Nothing) -> UserView:
    return await context.people.profile(caller.user_id)


async def _change_profile(context: Context, caller: Caller, request: ProfilePatch) -> UserView:
    return await context.people.update(caller.user_id, request)


async def _get_profile(context: Context, _caller: Caller, request: UserRef) -> UserView:
    return await context.people.profile(request.user_id)


async def _search_people(context: Context, caller: Caller, request: SearchQuery) -> SearchResult:
    return await context.search.search(caller.user_id, request)


async def _open_room(context: Context, caller: Caller, request: RoomRequest | GroupRequest) -> Made:
    if isinstance(request, GroupRequest):
        return Made(*await context.chat_list.create_group(caller.user_id, request))
    return Made(*await context.chat_list.open_room(caller.user_id, request))


async def _get_room(context: Context, caller: Caller, request: RoomRef) -> RoomView:
    return await context.chat_list.get_room(caller.user_id, request.room_id)


async def _change_room(context: Context, caller: Caller, request: RoomChange) -> RoomView:
    return await context.chat_list.change_room(caller.user_id, request.room_id, request.patch)


async def _delete_room(context: Context, caller: Caller, request: RoomRef) -> Nothing:
    await context.groups.delete(caller.user_id, request.room_id)
    return NOTHING


async def _join_room(context: Context, caller: Caller, request: RoomRef) -> RoomView:
    return await context.chat_list.join(caller.user_id, request.room_id)


async def _list_members(context: Context, caller: Caller, request: RoomMembers) -> MemberPage:
    return await context.member_list.list_members(caller.user_id, request.room_id, request.query)


async def _add_members(context: Context, caller: Caller, request: Invitation) -> AddedMembers:
    return await context.groups.add_members(caller.user_id, request.room_id, request.members.user_ids)


async def _change_role(context: Context, caller: Caller, request: RoleChange) -> RoomView:
    return await context.chat_list.change_role(caller.user_id, request.room_id, request.member_id, request.change.role)


async def _remove_member(context: Context, caller: Caller, request: RoomMember) -> Nothing:
    await context.groups.remove_member(caller.user_id, request.room_id, request.member_id)
    return NOTHING


async def _list_chats(context: Context, caller: Caller, request: ChatsQuery) -> ChatPage:
    return await context.chat_list.list_chats(caller.user_id, request)


async def _leave_room(context: Context, caller: Caller, request: RoomRef) -> Nothing:
    """Members get the events of a room without joining it, so nothing changes."""
    await context.rooms.access_room(caller.user_id, request.room_id)
    return NOTHING


async def _read_history(context: Context, caller: Caller, request: RoomHistory) -> HistoryPage:
    return await context.history.read_page(caller.user_id, request.room_id, request.query)


async def _sync(context: Context, caller: Caller, request: SyncRequest) -> SyncAnswer:
    return await context.history.sync(caller.user_id, request)


async def _send(context: Context, _caller: Caller, admitted: Any) -> Made:
    return Made(*await context.messages.store(admitted))


async def _mark_read(context: Context, caller: Caller, request: RoomMessage) -> ReadMark:
    return await context.receipts.mark_read(
        caller.user_id, request.message_id, room_id=request.room_id, skip=caller.connection
    )


async def _mark_delivered(context: Context, caller: Caller, request: MessageRef) -> Nothing:
    await context.receipts.mark_delivered(caller.user_id, request.message_id, skip=caller.connection)
    return NOTHING


async def _start_typing(context: Context, caller: Caller, request: RoomRef) -> Nothing:
    await context.typing.start(caller.user_id, request.room_id)
    return NOTHING


async def _stop_typing(context: Context, caller: Caller, request: RoomRef) -> Nothing:
    await context.typing.stop(caller.user_id, request.room_id)
    return NOTHING


async def _get_presence(context: Context, _caller: Caller, request: PresenceQuery) -> list[PresenceView]:
    return await context.presence.query(request)


async def _find_unavailable(context: Context, _caller: Caller, _request: Nothing) -> list[str]:
    return await context.health.find_unavailable()


async def _tell_alive(_context: Context, _caller: Caller, _request: Nothing) -> Nothing:
    return NOTHING


REGISTER: Final = Operation("accounts.register", None, Registration, TokenPair, _register, frozenset({Conflict}))
LOG_IN: Final = Operation("accounts.log_in", None, Login, TokenPair, _log_in)
REFRESH: Final = Operation("accounts.refresh", None, Refresh, TokenPair, _refresh)
LOG_OUT: Final = Operation("accounts.log_out", "sessions:write", Nothing, Nothing, _log_out)
RENEW_CONNECTION: Final = Operation("accounts.renew_connection", "sessions:write", TokenRef, str, _renew_connection)
GET_OWN_PROFILE: Final = Operation(
    "users.get_own_profile", "users:read", Nothing, UserView, _get_own_profile, _NOT_FOUND, Limit.READS
)
CHANGE_PROFILE: Final = Operation(
    "users.change_profile", "users:write", ProfilePatch, UserView, _change_profile, frozenset({Conflict, NotFound})
)
GET_PROFILE: Final = Operation(
    "users.get_profile", "users:read", UserRef, UserView, _get_profile, _NOT_FOUND, Limit.READS
)
SEARCH_PEOPLE: Final = Operation(
    "users.search", "users:read", SearchQuery, SearchResult, _search_people, limit=Limit.READS
)
OPEN_ROOM: Final = Operation(
    "rooms.open",
    "rooms:write",
    cast(type[RoomRequest | GroupRequest], RoomRequest | GroupRequest),
    RoomView,
    _open_room,
    _NOT_FOUND,
)
GET_ROOM: Final = Operation("rooms.get", "rooms:read", RoomRef, RoomView, _get_room, _NOT_FOUND, Limit.READS)
LIST_CHATS: Final = Operation("rooms.list", "rooms:read", ChatsQuery, ChatPage, _list_chats, limit=Limit.READS)
# Over sockets: to look at a room and away from it, which changes no membership.
ENTER_ROOM: Final = Operation("rooms.enter", "rooms:read", RoomRef, RoomView, _get_room, _NOT_FOUND)
EXIT_ROOM: Final = Operation("rooms.exit", "rooms:read", RoomRef, Nothing, _leave_room, _NOT_FOUND)
CHANGE_ROOM: Final = Operation(
    "rooms.change", "rooms:write", RoomChange, RoomView, _change_room, _CHANGE_ERRORS, Limit.MESSAGES
)
DELETE_ROOM: Final = Operation(
    "rooms.delete", "rooms:write", RoomRef, Nothing, _delete_room, _CHANGE_ERRORS, Limit.MESSAGES
)
JOIN_ROOM: Final = Operation("rooms.join", "rooms:write", RoomRef, RoomView, _join_room, _CHANGE_ERRORS, Limit.MESSAGES)
LIST_MEMBERS: Final = Operation(
    "members.list", "rooms:read", RoomMembers, MemberPage, _list_members, _NOT_FOUND, Limit.READS
)
ADD_MEMBERS: Final = Operation(
    "members.add", "rooms:write", Invitation, AddedMembers, _add_members, _CHANGE_ERRORS, Limit.MESSAGES
)
CHANGE_ROLE: Final = Operation(
    "members.change_role", "rooms:write", RoleChange, RoomView, _change_role, _CHANGE_ERRORS, Limit.MESSAGES
)
REMOVE_MEMBER: Final = Operation(
    "members.remove", "rooms:write", RoomMember, Nothing, _remove_member, _CHANGE_ERRORS, Limit.MESSAGES
)
READ_HISTORY: Final = Operation(
    "messages.read_history", "messages:read", RoomHistory, HistoryPage, _read_history, _NOT_FOUND, Limit.READS
)
SYNC: Final = Operation("messages.sync", "messages:read", SyncRequest, SyncAnswer, _sync, _NOT_FOUND)
SEND: Final = Operation(
    "messages.send",
    "messages:write",
    SendMessage,
    MessageView,
    _send,
    _NOT_FOUND,
    Limit.MESSAGES,
    check=lambda context, caller, request: context.messages.check(caller.user_id, request),
    placed=Placed(
        lambda context, admitted: context.messages.place(admitted),
        lambda context, admitted: context.messages.place_now(admitted),
    ),
)
MARK_READ: Final = Operation("messages.mark_read", "messages:read", RoomMessage, ReadMark, _mark_read, _NOT_FOUND)
MARK_DELIVERED: Final = Operation(
    "messages.mark_delivered", "messages:read", MessageRef, Nothing, _mark_delivered, _NOT_FOUND
)
START_TYPING: Final = Operation("typing.start", "messages:write", RoomRef, Nothing, _start_typing, _NOT_FOUND)
STOP_TYPING: Final = Operation("typing.stop", "messages:write", RoomRef, Nothing, _stop_typing, _NOT_FOUND)
GET_PRESENCE: Final = Operation("presence.get", "users:read", PresenceQuery, list[PresenceView], _get_presence)
UPLOAD: Final[Operation[Nothing, Any]] = Operation(
    "uploads.create",
    "messages:write",
    Nothing,
    UploadView,
    None,
    frozenset({PayloadTooLarge, UnsupportedMediaType}),
)
GET_FILE: Final[Operation[Nothing, Any]] = Operation(
    "uploads.get", None, Nothing, bytes, None, frozenset({NotFound, RangeNotSatisfiable})
)
TELL_ALIVE: Final = Operation("health.tell_alive", None, Nothing, Nothing, _tell_alive)
FIND_UNAVAILABLE: Final = Operation("health.find_unavailable", None, Nothing, list[str], _find_unavailable)
GET_WEB_FILE: Final[Operation[Nothing, Any]] = Operation("web.get_file", None, Nothing, bytes, None, _NOT_FOUND)
GET_WEB_SETTINGS: Final[Operation[Nothing, Any]] = Operation("web.get_settings", None, Nothing, dict, None, _NOT_FOUND)

OPERATIONS: Final[Mapping[str, Operation[Any, Any]]] = {
    operation.name: operation for operation in list(globals().values()) if isinstance(operation, Operation)
}
