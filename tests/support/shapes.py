"""Checks of the shapes that the contract promises; they say what is wrong."""

import re
from typing import Any

from tests.support.rest import Answer

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
STATUS_OF_CODE = {
    "VALIDATION_FAILED": 400,
    "UNAUTHORIZED": 401,
    "TOKEN_EXPIRED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "CONFLICT": 409,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "RANGE_NOT_SATISFIABLE": 416,
    "RATE_LIMITED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
}
# RFC 9110, 15; while the type is about:blank the title is one of these (RFC 9457, 4.2.1).
PHRASES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    416: "Range Not Satisfiable",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
MESSAGE_KEYS = {
    "messageId",
    "roomId",
    "seq",
    "clientMessageId",
    "senderId",
    "senderName",
    "content",
    "type",
    "messageType",
    "attachmentUrl",
    "timestamp",
    "isRead",
}
USER_KEYS = {
    "id",
    "email",
    "firstName",
    "lastName",
    "phone",
    "profileImage",
    "userType",
    "trustScore",
    "fullName",
    "isOnline",
    "lastSeenAt",
}
CHAT_KEYS = {
    "chatId",
    "participantId",
    "participantName",
    "participantImage",
    "lastMessage",
    "lastMessageType",
    "lastMessageTime",
    "unreadCount",
    "isOnline",
    "transactionId",
}
ROOM_KEYS = {"id", "user1Id", "user2Id", "bookingId", "createdAt", "lastSeq", "lastMessage", "members", "epoch"}


def check_time(value: Any) -> None:
    assert isinstance(value, str) and TIME.fullmatch(value), f"not a wire time: {value!r}"


def check_message(message: dict[str, Any]) -> None:
    assert message.keys() >= MESSAGE_KEYS, MESSAGE_KEYS - message.keys()
    assert message["type"] == message["messageType"]
    assert message["type"] in ("TEXT", "IMAGE", "FILE")
    assert isinstance(message["seq"], int) and message["seq"] >= 1
    assert isinstance(message["isRead"], bool)
    check_time(message["timestamp"])


def check_error(error: dict[str, Any], code: str, path: str | None = None) -> None:
    """The part of an error that both transports share; `path` is the field that must be named."""
    assert error["code"] == code, error
    assert error["status"] == STATUS_OF_CODE[code], error
    assert isinstance(error["detail"], str) and error["detail"], error
    assert "`" not in error["detail"], f"words of the parser, not of people: {error}"
    for entry in error.get("errors", []):
        assert entry.keys() == {"path", "message"}, error
        assert isinstance(entry["path"], str) and entry["message"], error
    if path is not None:
        paths = [entry["path"] for entry in error.get("errors", [])]
        assert path in paths, f"the error should name {path!r}: {error}"


def check_problem(answer: Answer, code: str, path: str | None = None) -> None:
    """A REST error: RFC 9457 with the right status."""
    assert answer.status == STATUS_OF_CODE[code], answer
    assert answer.headers["Content-Type"].split(";")[0] == "application/problem+json", dict(answer.headers)
    check_error(answer.body, code, path)
    assert (answer.body["type"], answer.body["title"]) == ("about:blank", PHRASES[answer.status]), answer
    assert answer.body["status"] == answer.status, answer
    if answer.status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer"), dict(answer.headers)
    if answer.status == 429:
        assert int(answer.headers["Retry-After"]) >= 1, dict(answer.headers)


def check_refused(ack: dict[str, Any], code: str, path: str | None = None) -> None:
    """A socket error, as the acknowledgement gives it."""
    assert isinstance(ack, dict) and ack.get("ok") is False, ack
    check_error(ack["error"], code, path)
