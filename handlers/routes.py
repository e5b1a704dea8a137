"""The route table. A route needs a token unless its handler class is public."""

from typing import Final

from handlers.base import ApiHandler
from handlers.rest import auth, downloads, messages, system, uploads, users, web

API: Final = "/api/v1"
_ID: Final = "([^/]+)"

ROUTES: Final[list[tuple[str, type[ApiHandler]]]] = [
    (f"{API}/auth/register", auth.RegisterHandler),
    (f"{API}/auth/login", auth.LoginHandler),
    (f"{API}/auth/refresh", auth.RefreshHandler),
    (f"{API}/auth/logout", auth.LogoutHandler),
    (f"{API}/users/me", users.MeHandler),
    (f"{API}/users/search", users.UserSearchHandler),
    (f"{API}/users/{_ID}", users.UserHandler),
    (f"{API}/messages/chat-rooms", messages.RoomsHandler),
    (f"{API}/messages/chat-rooms/{_ID}", messages.RoomHandler),
    (f"{API}/messages/chats", messages.ChatsHandler),
    (f"{API}/messages/chats/{_ID}/messages", messages.ChatMessagesHandler),
    (f"{API}/messages/chats/{_ID}/read", messages.ChatReadHandler),
    (f"{API}/upload", uploads.UploadHandler),
    ("/uploads/([^/]+)", downloads.FileHandler),
    ("/healthz", system.HealthHandler),
    ("/readyz", system.ReadyHandler),
    ("/", web.WebFileHandler),
    ("/web/settings.json", web.WebSettingsHandler),
    ("/web/(.+)", web.WebFileHandler),
]
