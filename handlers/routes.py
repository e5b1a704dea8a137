"""The route table: for each path its handler, and the operation of each method (HEAD is GET)."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from handlers.base import ApiHandler
from handlers.rest import auth, downloads, messages, system, uploads, users, web
from server.operations import messages as message_operations
from server.operations import others, people, rooms
from server.operations.operation import Operation

API: Final = "/api/v1"
_ID: Final = "([^/]+)"


class Route(NamedTuple):
    """A method without an operation needs a token and is refused."""

    pattern: str
    handler: type[ApiHandler]
    operations: Mapping[str, Operation[Any, Any]]


ROUTES: Final = (
    Route(f"{API}/auth/register", auth.RegisterHandler, {"POST": people.REGISTER}),
    Route(f"{API}/auth/login", auth.LoginHandler, {"POST": people.LOG_IN}),
    Route(f"{API}/auth/refresh", auth.RefreshHandler, {"POST": people.REFRESH}),
    Route(f"{API}/auth/logout", auth.LogoutHandler, {"POST": people.LOG_OUT}),
    Route(f"{API}/users/me", users.MeHandler, {"GET": people.GET_OWN_PROFILE, "PATCH": people.CHANGE_PROFILE}),
    Route(f"{API}/users/search", users.UserSearchHandler, {"GET": people.SEARCH_PEOPLE}),
    Route(f"{API}/users/presence", users.PresenceHandler, {"GET": people.GET_PRESENCE}),
    Route(
        f"{API}/users/{_ID}",
        users.UserHandler,
        {"GET": people.GET_PROFILE, "PUT": people.PUT_USER, "DELETE": people.DELETE_USER},
    ),
    Route(f"{API}/messages/chat-rooms", messages.RoomsHandler, {"POST": rooms.OPEN_ROOM}),
    Route(
        f"{API}/messages/chat-rooms/{_ID}",
        messages.RoomHandler,
        {"GET": rooms.GET_ROOM, "PATCH": rooms.CHANGE_ROOM, "DELETE": rooms.DELETE_ROOM},
    ),
    Route(f"{API}/messages/chat-rooms/{_ID}/join", messages.JoinHandler, {"POST": rooms.JOIN_ROOM}),
    Route(
        f"{API}/messages/chat-rooms/{_ID}/members",
        messages.MembersHandler,
        {"GET": rooms.LIST_MEMBERS, "POST": rooms.ADD_MEMBERS},
    ),
    Route(
        f"{API}/messages/chat-rooms/{_ID}/members/{_ID}",
        messages.MemberHandler,
        {"PATCH": rooms.CHANGE_ROLE, "DELETE": rooms.REMOVE_MEMBER},
    ),
    Route(f"{API}/messages/open-rooms", messages.OpenRoomsHandler, {"GET": rooms.LIST_OPEN_ROOMS}),
    Route(f"{API}/messages/unread", messages.UnreadHandler, {"GET": rooms.SUM_UNREAD}),
    Route(f"{API}/messages/sync", messages.SyncHandler, {"POST": message_operations.SYNC}),
    Route(f"{API}/messages/chats", messages.ChatsHandler, {"GET": rooms.LIST_CHATS}),
    Route(f"{API}/messages/chats/{_ID}", messages.ChatHandler, {"GET": rooms.GET_CHAT}),
    Route(
        f"{API}/messages/chats/{_ID}/messages",
        messages.ChatMessagesHandler,
        {"GET": message_operations.READ_HISTORY, "POST": message_operations.SEND},
    ),
    Route(f"{API}/messages/chats/{_ID}/read", messages.ChatReadHandler, {"POST": message_operations.MARK_READ}),
    Route(f"{API}/messages/chats/{_ID}/pins", messages.PinsHandler, {"GET": message_operations.LIST_PINS}),
    Route(
        f"{API}/messages/{_ID}",
        messages.MessageHandler,
        {"PATCH": message_operations.EDIT, "DELETE": message_operations.DELETE},
    ),
    Route(
        f"{API}/messages/{_ID}/reactions/{_ID}",
        messages.ReactionHandler,
        {"PUT": message_operations.REACT, "DELETE": message_operations.REACT},
    ),
    Route(
        f"{API}/messages/{_ID}/pin",
        messages.PinHandler,
        {"PUT": message_operations.PIN, "DELETE": message_operations.PIN},
    ),
    Route(f"{API}/messages/{_ID}/receipts", messages.ReceiptsHandler, {"GET": message_operations.LIST_RECEIPTS}),
    Route(f"{API}/upload", uploads.UploadHandler, {"POST": others.UPLOAD}),
    # Public, because `<img>` sends no token: anyone who has the address may read the file.
    Route("/uploads/([^/]+)", downloads.FileHandler, {"GET": others.GET_FILE}),
    Route("/healthz", system.HealthHandler, {"GET": others.TELL_ALIVE}),
    Route("/readyz", system.ReadyHandler, {"GET": others.FIND_UNAVAILABLE}),
    Route("/metrics", system.MetricsHandler, {"GET": others.READ_METRICS}),
    Route("/", web.WebFileHandler, {"GET": others.GET_WEB_FILE}),
    Route("/web/settings.json", web.WebSettingsHandler, {"GET": others.GET_WEB_SETTINGS}),
    Route("/web/(.+)", web.WebFileHandler, {"GET": others.GET_WEB_FILE}),
)
