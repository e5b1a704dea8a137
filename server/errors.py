"""The errors that clients see: each kind has a stable code and a status, and there is one body for all."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from server.config_types import write_size


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field. `path` is dotted, e.g. `rooms.r1`; empty for the whole input."""

    path: str
    message: str


class ChatError(Exception):
    """An error that may be shown to a client as it is. Subclasses fix `code` and `status`."""

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(
        self, detail: str = "", *, errors: Sequence[FieldError] = (), retry_after: float | None = None
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = tuple(errors)
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """The part of the error that both transports share: `{code, status, detail, errors?, retryAfter?}`.

        `retryAfter` is in whole seconds, never less than `retry_after`: whoever waits that long is not refused again.
        """
        body: dict[str, Any] = {"code": self.code, "status": self.status, "detail": self.detail}
        if self.errors:
            body["errors"] = [{"path": error.path, "message": error.message} for error in self.errors]
        if self.retry_after is not None:
            body["retryAfter"] = max(1, math.ceil(self.retry_after))
        return body


class ValidationFailed(ChatError):
    code, status, title = "VALIDATION_FAILED", 400, "Bad input"

    @classmethod
    def at(cls, path: str, message: str) -> "ValidationFailed":
        """Bad input in one named field."""
        return cls(f"{path}: {message}" if path else message, errors=[FieldError(path, message)])


class Unauthorized(ChatError):
    code, status, title = "UNAUTHORIZED", 401, "A valid token is needed"


class TokenExpired(ChatError):
    code, status, title = "TOKEN_EXPIRED", 401, "The token has expired"


class Forbidden(ChatError):
    code, status, title = "FORBIDDEN", 403, "Not allowed"


class NotFound(ChatError):
    code, status, title = "NOT_FOUND", 404, "Not found"


class MethodNotAllowed(ChatError):
    code, status, title = "METHOD_NOT_ALLOWED", 405, "Method not allowed"


class Conflict(ChatError):
    code, status, title = "CONFLICT", 409, "Conflict"


class PayloadTooLarge(ChatError):
    code, status, title = "PAYLOAD_TOO_LARGE", 413, "Payload too large"

    @classmethod
    def over(cls, what: str, limit: int) -> "PayloadTooLarge":
        """`what` has more than `limit` bytes."""
        return cls(f"{what} may have at most {write_size(limit, ' ')}")


class UnsupportedMediaType(ChatError):
    code, status, title = "UNSUPPORTED_MEDIA_TYPE", 415, "Unsupported media type"


class RangeNotSatisfiable(ChatError):
    code, status, title = "RANGE_NOT_SATISFIABLE", 416, "The range lies outside of the file"


class RateLimited(ChatError):
    code, status, title = "RATE_LIMITED", 429, "Too many requests"


class Internal(ChatError):
    """Anything that was not foreseen. Its cause is logged, never shown."""


class Unavailable(ChatError):
    """A store does not answer just now; the same request may succeed later."""

    code, status, title = "UNAVAILABLE", 503, "Temporarily unavailable"


class Unusable(Unavailable):
    """A store answers, but not to this: what it holds or allows there is not ours. Trying again does not help."""
