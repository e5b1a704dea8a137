"""The route table: for each path its handler, and the operation of each method (HEAD is GET)."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from handlers.base import ApiHandler
from handlers.rest import auth, downloads, messages, system, uploads, users, web
from server.operations import table
from server.operations.operation import Operation

API: Final = "/api/v1"
_ID: Final = "([^/]+)"


class Route(NamedTuple):
    """A method without an operation needs a token and is refused."""

    pattern: str
    handler: type[ApiHandler]
    operations: Mapping[str, Operation[Any, Any]]


ROUTES: Final = (
    Route(f"{API}/auth/register", auth.RegisterHandler, {"POST": table.REGISTER}),
    Route(f"{API}/auth/login", auth.LoginHandler, {"POST": table.LOG_IN}),
    Route(f"{API}/auth/refresh", auth.RefreshHandler, {"POST": table.REFRESH}),
    Route(f"{API}/auth/logout", auth.LogoutHandler, {"POST": table.LOG_OUT}),
    Route(f"{API}/users/me", users.MeHandler, {"GET": table.GET_OWN_PROFILE, "PATCH": table.CHANGE_PROFILE}),
    Route(f"{API}/users/search", users.UserSearchHandler, {"GET": table.SEARCH_PEOPLE}),
    Route(f"{API}/users/{_ID}", users.UserHandler, {"GET": table.GET_PROFILE}),
    Route(f"{API}/messages/chat-rooms", messages.RoomsHandler, {"POST": table.OPEN_ROOM}),
    Route(
        f"{API}/messages/chat-rooms/{_ID}",
        messages.RoomHandler,
        {"GET": table.GET_ROOM, "PATCH": table.CHANGE_ROOM, "DELETE": table.DELETE_ROOM},
    ),
    Route(f"{API}/messages/chat-rooms/{_ID}/join", messages.JoinHandler, {"POST": table.JOIN_ROOM}),
    Route(
        f"{API}/messages/chat-rooms/{_ID}/members",
        messages.MembersHandler,
        {"GET": table.LIST_MEMBERS, "POST": table.ADD_MEMBERS},
    ),
    Route(
        f"{API}/messages/chat-rooms/{_ID}/members/{_ID}",
        messages.MemberHandler,
        {"PATCH": table.CHANGE_ROLE, "DELETE": table.REMOVE_MEMBER},
    ),
    Route(f"{API}/messages/chats", messages.ChatsHandler, {"GET": table.LIST_CHATS}),
    Route(
        f"{API}/messages/chats/{_ID}/messages",
        messages.ChatMessagesHandler,
        {"GET": table.READ_HISTORY, "POST": table.SEND},
    ),
    Route(f"{API}/messages/chats/{_ID}/read", messages.ChatReadHandler, {"POST": table.MARK_READ}),
    Route(f"{API}/upload", uploads.UploadHandler, {"POST": table.UPLOAD}),
    # Public, because `<img>` sends no token: anyone who has the address may read the file.
    Route("/uploads/([^/]+)", downloads.FileHandler, {"GET": table.GET_FILE}),
    Route("/healthz", system.HealthHandler, {"GET": table.TELL_ALIVE}),
    Route("/readyz", system.ReadyHandler, {"GET": table.FIND_UNAVAILABLE}),
    Route("/", web.WebFileHandler, {"GET": table.GET_WEB_FILE}),
    Route("/web/settings.json", web.WebSettingsHandler, {"GET": table.GET_WEB_SETTINGS}),
    Route("/web/(.+)", web.WebFileHandler, {"GET": table.GET_WEB_FILE}),
)
