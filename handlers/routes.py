"""The route table: for each path its handler, and what each of its methods does (HEAD is GET)."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from handlers.base import IDEMPOTENCY_KEY, ApiHandler
from handlers.endpoint import CREATED, CREATED_OR_FOUND, NO_CONTENT, Endpoint
from handlers.rest import auth, contract, downloads, messages, safety, system, uploads, users, web
from server.operations import messages as message_operations
from server.operations import others, people, rooms
from server.operations import safety as protection
from server.requests import (
    AccountRemoval,
    ChatSettingsPatch,
    ChatsQuery,
    DirectoryUser,
    Edit,
    GroupRequest,
    HistoryQuery,
    Login,
    MembersQuery,
    MessageRef,
    MessageReport,
    NewMembers,
    NewRole,
    OpenRoomsQuery,
    PasswordChange,
    PresenceIds,
    ProfilePatch,
    Refresh,
    Registration,
    RoomPatch,
    RoomRequest,
    SearchQuery,
    SendMessage,
    SyncRequest,
    UploadForm,
)

API: Final = "/api/v1"


class Route(NamedTuple):
    """`path` has names in braces for its variable parts. They override fields of the body that have the same name.

    What is not `is_described` serves the page, and is no part of the contract.
    """

    path: str
    handler: type[ApiHandler]
    endpoints: Mapping[str, Endpoint]
    is_described: bool = True


def pattern_of(path: str) -> str:
    """The path as a regular expression: a name in braces is one part of it, `{path*}` any number of parts."""
    return re.sub(r"\{\w+\}", "([^/]+)", path).replace("{path*}", "(.+)")


ROUTES: Final = (
    Route(
        f"{API}/auth/register",
        auth.RegisterHandler,
        {"POST": Endpoint(people.REGISTER, Registration, statuses=CREATED)},
    ),
    Route(f"{API}/auth/login", auth.LoginHandler, {"POST": Endpoint(people.LOG_IN, Login)}),
    Route(f"{API}/auth/refresh", auth.RefreshHandler, {"POST": Endpoint(people.REFRESH, Refresh)}),
    Route(f"{API}/auth/logout", auth.LogoutHandler, {"POST": Endpoint(people.LOG_OUT, statuses=NO_CONTENT)}),
    Route(
        f"{API}/auth/password",
        auth.PasswordHandler,
        {"POST": Endpoint(people.CHANGE_PASSWORD, PasswordChange, statuses=NO_CONTENT)},
    ),
    Route(f"{API}/auth/sessions", auth.SessionsHandler, {"GET": Endpoint(people.LIST_SESSIONS)}),
    Route(
        f"{API}/auth/sessions/{{sessionId}}",
        auth.SessionHandler,
        {"DELETE": Endpoint(people.END_SESSION, statuses=NO_CONTENT)},
    ),
    Route(
        f"{API}/users/me",
        users.MeHandler,
        {
            "GET": Endpoint(people.GET_OWN_PROFILE),
            "PATCH": Endpoint(people.CHANGE_PROFILE, ProfilePatch),
            "DELETE": Endpoint(people.DELETE_ACCOUNT, AccountRemoval, statuses=NO_CONTENT),
        },
    ),
    Route(
        f"{API}/users/search",
        users.UserSearchHandler,
        {"GET": Endpoint(people.SEARCH_PEOPLE, query=SearchQuery, is_compressible=True)},
    ),
    Route(f"{API}/users/me/export", users.ExportHandler, {"GET": Endpoint(people.EXPORT, media="application/zip")}),
    Route(f"{API}/users/blocked", safety.BlockedHandler, {"GET": Endpoint(protection.LIST_BLOCKED)}),
    Route(
        f"{API}/users/{{userId}}/block",
        safety.BlockHandler,
        {
            "POST": Endpoint(protection.BLOCK, statuses=NO_CONTENT),
            "DELETE": Endpoint(protection.UNBLOCK, statuses=NO_CONTENT),
        },
    ),
    Route(f"{API}/users/presence", users.PresenceHandler, {"GET": Endpoint(people.GET_PRESENCE, query=PresenceIds)}),
    Route(
        f"{API}/users/{{userId}}",
        users.UserHandler,
        {
            "GET": Endpoint(people.GET_PROFILE),
            "PUT": Endpoint(people.PUT_USER, DirectoryUser, statuses=CREATED_OR_FOUND),
            "DELETE": Endpoint(people.DELETE_USER, statuses=NO_CONTENT),
        },
    ),
    Route(
        f"{API}/messages/chat-rooms",
        messages.RoomsHandler,
        {"POST": Endpoint(rooms.OPEN_ROOM, RoomRequest | GroupRequest, statuses=CREATED_OR_FOUND)},
    ),
    Route(
        f"{API}/messages/chat-rooms/{{roomId}}",
        messages.RoomHandler,
        {
            "GET": Endpoint(rooms.GET_ROOM),
            "PATCH": Endpoint(rooms.CHANGE_ROOM, RoomPatch),
            "DELETE": Endpoint(rooms.DELETE_ROOM, statuses=NO_CONTENT),
        },
    ),
    Route(f"{API}/messages/chat-rooms/{{roomId}}/join", messages.JoinHandler, {"POST": Endpoint(rooms.JOIN_ROOM)}),
    Route(
        f"{API}/messages/chat-rooms/{{roomId}}/members",
        messages.MembersHandler,
        {
            "GET": Endpoint(rooms.LIST_MEMBERS, query=MembersQuery, is_compressible=True),
            "POST": Endpoint(rooms.ADD_MEMBERS, NewMembers),
        },
    ),
    Route(
        f"{API}/messages/chat-rooms/{{roomId}}/members/{{userId}}",
        messages.MemberHandler,
        {"PATCH": Endpoint(rooms.CHANGE_ROLE, NewRole), "DELETE": Endpoint(rooms.REMOVE_MEMBER, statuses=NO_CONTENT)},
    ),
    Route(
        f"{API}/messages/open-rooms",
        messages.OpenRoomsHandler,
        {"GET": Endpoint(rooms.LIST_OPEN_ROOMS, query=OpenRoomsQuery, is_compressible=True)},
    ),
    Route(f"{API}/messages/unread", messages.UnreadHandler, {"GET": Endpoint(rooms.SUM_UNREAD)}),
    Route(f"{API}/messages/sync", messages.SyncHandler, {"POST": Endpoint(message_operations.SYNC, SyncRequest)}),
    Route(f"{API}/messages/chats", messages.ChatsHandler, {"GET": Endpoint(rooms.LIST_CHATS, query=ChatsQuery)}),
    Route(f"{API}/messages/chats/{{roomId}}", messages.ChatHandler, {"GET": Endpoint(rooms.GET_CHAT)}),
    Route(
        f"{API}/messages/chats/{{roomId}}/messages",
        messages.ChatMessagesHandler,
        {
            "GET": Endpoint(message_operations.READ_HISTORY, query=HistoryQuery, is_compressible=True),
            "POST": Endpoint(
                message_operations.SEND, SendMessage, headers=(IDEMPOTENCY_KEY,), statuses=CREATED_OR_FOUND
            ),
        },
    ),
    Route(
        f"{API}/messages/chats/{{roomId}}/read",
        messages.ChatReadHandler,
        {"POST": Endpoint(message_operations.MARK_READ, MessageRef)},
    ),
    Route(
        f"{API}/messages/chats/{{roomId}}/settings",
        safety.ChatSettingsHandler,
        {"PATCH": Endpoint(protection.CHANGE_SETTINGS, ChatSettingsPatch)},
    ),
    Route(
        f"{API}/messages/{{messageId}}/report",
        safety.ReportHandler,
        {"POST": Endpoint(protection.REPORT, MessageReport, statuses=NO_CONTENT)},
    ),
    Route(
        f"{API}/messages/chats/{{roomId}}/pins",
        messages.PinsHandler,
        {"GET": Endpoint(message_operations.LIST_PINS, is_compressible=True)},
    ),
    Route(
        f"{API}/messages/{{messageId}}",
        messages.MessageHandler,
        {"PATCH": Endpoint(message_operations.EDIT, Edit), "DELETE": Endpoint(message_operations.DELETE)},
    ),
    Route(
        f"{API}/messages/{{messageId}}/reactions/{{emoji}}",
        messages.ReactionHandler,
        {"PUT": Endpoint(message_operations.REACT), "DELETE": Endpoint(message_operations.REACT)},
    ),
    Route(
        f"{API}/messages/{{messageId}}/pin",
        messages.PinHandler,
        {"PUT": Endpoint(message_operations.PIN), "DELETE": Endpoint(message_operations.PIN)},
    ),
    Route(
        f"{API}/messages/{{messageId}}/receipts",
        messages.ReceiptsHandler,
        {"GET": Endpoint(message_operations.LIST_RECEIPTS)},
    ),
    Route(f"{API}/upload", uploads.UploadHandler, {"POST": Endpoint(others.UPLOAD, form=UploadForm, statuses=CREATED)}),
    # Public, because `<img>` sends no token: anyone who has the address may read the file.
    Route(
        "/uploads/{name}",
        downloads.FileHandler,
        {"GET": Endpoint(others.GET_FILE, statuses=(200, 206, 304), media="*/*")},
    ),
    Route(
        f"{API}/openapi.json", contract.DocumentHandler, {"GET": Endpoint(others.DESCRIBE_REST, is_compressible=True)}
    ),
    Route(
        f"{API}/asyncapi.json",
        contract.DocumentHandler,
        {"GET": Endpoint(others.DESCRIBE_SOCKETS, is_compressible=True)},
    ),
    Route("/docs", web.DocsHandler, {"GET": Endpoint(others.GET_WEB_FILE)}, is_described=False),
    Route("/healthz", system.HealthHandler, {"GET": Endpoint(others.TELL_ALIVE)}),
    Route("/readyz", system.ReadyHandler, {"GET": Endpoint(others.FIND_UNAVAILABLE, statuses=(200, 503))}),
    Route("/metrics", system.MetricsHandler, {"GET": Endpoint(others.READ_METRICS, media="text/plain")}),
    Route("/", web.WebFileHandler, {"GET": Endpoint(others.GET_WEB_FILE)}, is_described=False),
    Route("/web/settings.json", web.WebSettingsHandler, {"GET": Endpoint(others.GET_WEB_SETTINGS)}, is_described=False),
    Route("/web/{path*}", web.WebFileHandler, {"GET": Endpoint(others.GET_WEB_FILE)}, is_described=False),
)
