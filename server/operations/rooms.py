"""Operations on rooms, their members, and who types there."""

from typing import Final, NamedTuple, cast

from server.context import Context
from server.operations.operation import CHANGE_ERRORS, NOT_FOUND, NOTHING, Caller, Limit, Made, Nothing, Operation
from server.protocol import AddedMembers, ChatPage, ChatView, MemberPage, OpenRoomPage, RoomView, UnreadSum
from server.requests import (
    ChatsQuery,
    GroupRequest,
    MembersQuery,
    NewMembers,
    NewRole,
    OpenRoomsQuery,
    RoomPatch,
    RoomRef,
    RoomRequest,
)


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


async def _list_open_rooms(context: Context, caller: Caller, request: OpenRoomsQuery) -> OpenRoomPage:
    return await context.open_rooms.list_open_rooms(caller.user_id, request)


async def _enter_room(context: Context, caller: Caller, request: RoomRef) -> RoomView:
    """Tell a socket who types there, however many members there are."""
    room = await context.chat_list.get_room(caller.user_id, request.room_id)
    if caller.connection is not None:
        context.typing.enter(caller.connection, request.room_id)
    return room


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


async def _get_chat(context: Context, caller: Caller, request: RoomRef) -> ChatView:
    return await context.chat_list.get_chat(caller.user_id, request.room_id)


async def _sum_unread(context: Context, caller: Caller, _request: Nothing) -> UnreadSum:
    return await context.chat_list.sum_unread(caller.user_id)


async def _exit_room(context: Context, caller: Caller, request: RoomRef) -> Nothing:
    """Members get the messages of a room without entering it."""
    await context.rooms.access_room(caller.user_id, request.room_id)
    if caller.connection is not None:
        context.typing.exit(caller.connection, request.room_id)
    return NOTHING


async def _start_typing(context: Context, caller: Caller, request: RoomRef) -> Nothing:
    await context.typing.start(caller.user_id, request.room_id)
    return NOTHING


async def _stop_typing(context: Context, caller: Caller, request: RoomRef) -> Nothing:
    await context.typing.stop(caller.user_id, request.room_id)
    return NOTHING


OPEN_ROOM: Final = Operation(
    "rooms.open",
    "Open a direct room or create a group",
    "rooms:write",
    cast(type[RoomRequest | GroupRequest], RoomRequest | GroupRequest),
    RoomView,
    _open_room,
    NOT_FOUND,
)
GET_ROOM: Final = Operation(
    "rooms.get",
    "A room with its members and their marks",
    "rooms:read",
    RoomRef,
    RoomView,
    _get_room,
    NOT_FOUND,
    Limit.READS,
)
GET_CHAT: Final = Operation(
    "rooms.get_line", "One line of the chat list", "rooms:read", RoomRef, ChatView, _get_chat, NOT_FOUND, Limit.READS
)
SUM_UNREAD: Final = Operation(
    "rooms.sum_unread",
    "The sum of all unread messages",
    "rooms:read",
    Nothing,
    UnreadSum,
    _sum_unread,
    limit=Limit.READS,
)
LIST_CHATS: Final = Operation(
    "rooms.list", "The chat list, the latest first", "rooms:read", ChatsQuery, ChatPage, _list_chats, limit=Limit.READS
)
# Over sockets: to look at a room and away from it, which changes no membership.
ENTER_ROOM: Final = Operation(
    "rooms.enter",
    "Look at a room: hear who types there, however many members it has",
    "rooms:read",
    RoomRef,
    RoomView,
    _enter_room,
    NOT_FOUND,
)
EXIT_ROOM: Final = Operation(
    "rooms.exit", "Look away from a room; messages still come", "rooms:read", RoomRef, Nothing, _exit_room, NOT_FOUND
)
CHANGE_ROOM: Final = Operation(
    "rooms.change",
    "Change the name or another detail of a group",
    "rooms:write",
    RoomChange,
    RoomView,
    _change_room,
    CHANGE_ERRORS,
    Limit.MESSAGES,
)
DELETE_ROOM: Final = Operation(
    "rooms.delete",
    "Delete a group for everybody",
    "rooms:write",
    RoomRef,
    Nothing,
    _delete_room,
    CHANGE_ERRORS,
    Limit.MESSAGES,
)
JOIN_ROOM: Final = Operation(
    "rooms.join", "Join an open group", "rooms:write", RoomRef, RoomView, _join_room, CHANGE_ERRORS, Limit.MESSAGES
)
LIST_OPEN_ROOMS: Final = Operation(
    "rooms.list_open",
    "Groups that anybody may join",
    "rooms:read",
    OpenRoomsQuery,
    OpenRoomPage,
    _list_open_rooms,
    limit=Limit.READS,
)
LIST_MEMBERS: Final = Operation(
    "members.list",
    "The members of a room, by pages",
    "rooms:read",
    RoomMembers,
    MemberPage,
    _list_members,
    NOT_FOUND,
    Limit.READS,
)
ADD_MEMBERS: Final = Operation(
    "members.add",
    "Bring people into a group",
    "rooms:write",
    Invitation,
    AddedMembers,
    _add_members,
    CHANGE_ERRORS,
    Limit.MESSAGES,
)
CHANGE_ROLE: Final = Operation(
    "members.change_role",
    "Change the role of a member",
    "rooms:write",
    RoleChange,
    RoomView,
    _change_role,
    CHANGE_ERRORS,
    Limit.MESSAGES,
)
REMOVE_MEMBER: Final = Operation(
    "members.remove",
    "Remove a member, or leave (`me`)",
    "rooms:write",
    RoomMember,
    Nothing,
    _remove_member,
    CHANGE_ERRORS,
    Limit.MESSAGES,
)
START_TYPING: Final = Operation(
    "typing.start", "Tell the others that one types", "messages:write", RoomRef, Nothing, _start_typing, NOT_FOUND
)
STOP_TYPING: Final = Operation(
    "typing.stop",
    "Tell the others that one no longer types",
    "messages:write",
    RoomRef,
    Nothing,
    _stop_typing,
    NOT_FOUND,
)
