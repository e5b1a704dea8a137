"""Every REST route, once: how it is called and who may. Tests compare it with the server's own table."""

from typing import Any, NamedTuple

from tests.support.rest import API, MESSAGES, NOTHING

UNKNOWN = "0" * 32


class Route(NamedTuple):
    """A call. `{room}` and `{message}` stand for Alice's; with `is_shared` a stranger must not see that they exist.

    What answers GET answers HEAD too.
    """

    method: str
    path: str
    body: Any = NOTHING
    is_public: bool = False
    is_shared: bool = False

    @property
    def methods(self) -> set[str]:
        return {self.method, "HEAD"} if self.method == "GET" else {self.method}

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


ROUTES = (
    Route("POST", f"{API}/auth/register", {}, is_public=True),
    Route("POST", f"{API}/auth/login", {}, is_public=True),
    Route("POST", f"{API}/auth/refresh", {}, is_public=True),
    Route("POST", f"{API}/auth/logout"),
    Route("POST", f"{API}/auth/password", {}),
    Route("GET", f"{API}/auth/sessions"),
    Route("DELETE", f"{API}/auth/sessions/{UNKNOWN}"),
    Route("GET", f"{API}/users/me"),
    Route("PATCH", f"{API}/users/me", {}),
    Route("DELETE", f"{API}/users/me", {}),
    Route("GET", f"{API}/users/me/export"),
    Route("GET", f"{API}/users/search?q=x"),
    Route("GET", f"{API}/users/{{user}}"),
    Route("PUT", f"{API}/users/{{user}}", {"firstName": "x"}),
    Route("DELETE", f"{API}/users/{{user}}"),
    Route("POST", f"{MESSAGES}/chat-rooms", {"otherUserId": UNKNOWN}),
    Route("GET", f"{MESSAGES}/chat-rooms/{{room}}", is_shared=True),
    Route("PATCH", f"{MESSAGES}/chat-rooms/{{room}}", {"name": "x"}, is_shared=True),
    Route("DELETE", f"{MESSAGES}/chat-rooms/{{room}}", is_shared=True),
    Route("POST", f"{MESSAGES}/chat-rooms/{{room}}/join", {}, is_shared=True),
    Route("GET", f"{MESSAGES}/chat-rooms/{{room}}/members", is_shared=True),
    Route("POST", f"{MESSAGES}/chat-rooms/{{room}}/members", {"userIds": ["{user}"]}, is_shared=True),
    Route("PATCH", f"{MESSAGES}/chat-rooms/{{room}}/members/{{user}}", {"role": "ADMIN"}, is_shared=True),
    Route("DELETE", f"{MESSAGES}/chat-rooms/{{room}}/members/{{user}}", is_shared=True),
    Route("GET", f"{MESSAGES}/chats"),
    Route("GET", f"{MESSAGES}/chats/{{room}}", is_shared=True),
    Route("GET", f"{MESSAGES}/unread"),
    Route("POST", f"{MESSAGES}/sync", {"rooms": {}}),
    Route("GET", f"{API}/users/presence?ids=x"),
    Route("GET", f"{MESSAGES}/chats/{{room}}/messages", is_shared=True),
    Route("POST", f"{MESSAGES}/chats/{{room}}/messages", {"content": "x"}, is_shared=True),
    Route("PATCH", f"{MESSAGES}/chats/{{room}}/settings", {"pinned": True}, is_shared=True),
    Route("POST", f"{MESSAGES}/{{message}}/report", {"reason": "SPAM"}, is_shared=True),
    Route("GET", f"{API}/users/blocked"),
    Route("POST", f"{API}/users/{UNKNOWN}/block"),
    Route("DELETE", f"{API}/users/{UNKNOWN}/block"),
    Route("POST", f"{MESSAGES}/chats/{{room}}/read", {"messageId": "{message}"}, is_shared=True),
    Route("GET", f"{MESSAGES}/open-rooms"),
    Route("GET", f"{MESSAGES}/chats/{{room}}/pins", is_shared=True),
    Route("PATCH", f"{MESSAGES}/{{message}}", {"content": "y"}, is_shared=True),
    Route("DELETE", f"{MESSAGES}/{{message}}", is_shared=True),
    Route("PUT", f"{MESSAGES}/{{message}}/reactions/%F0%9F%91%8D", is_shared=True),
    Route("DELETE", f"{MESSAGES}/{{message}}/reactions/%F0%9F%91%8D", is_shared=True),
    Route("PUT", f"{MESSAGES}/{{message}}/pin", is_shared=True),
    Route("DELETE", f"{MESSAGES}/{{message}}/pin", is_shared=True),
    Route("GET", f"{MESSAGES}/{{message}}/receipts", is_shared=True),
    Route("POST", f"{API}/upload"),
    Route("GET", "/uploads/{file}", is_public=True),
    Route("GET", f"{API}/openapi.json", is_public=True),
    Route("GET", f"{API}/asyncapi.json", is_public=True),
    Route("GET", "/docs", is_public=True),
    Route("GET", "/", is_public=True),
    Route("GET", "/web/settings.json", is_public=True),
    Route("GET", "/web/{file}", is_public=True),
    Route("GET", "/healthz", is_public=True),
    Route("GET", "/readyz", is_public=True),
    Route("GET", "/metrics", is_public=True),
)
