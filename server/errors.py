"""The errors that clients see: each class has a stable code and a status; all share one body."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, ParamSpec, Self, TypeVar, cast

import msgspec

from server.config.types import write_size

P = ParamSpec("P")
T = TypeVar("T")
# Field errors in `detail`, which is for display; `errors` lists all.
MAX_IN_DETAIL: Final = 3
# The `reason` of a refusal that lies in a block.
BLOCKED: Final = "BLOCKED"


class FieldError(msgspec.Struct, frozen=True):
    """One wrong field. `path` is dotted, e.g. `rooms.r1`; empty for the whole input."""

    path: str
    message: str


class ErrorView(msgspec.Struct, frozen=True, rename="camel"):
    """An error as clients get it.

    `retry_after` is in whole seconds, rounded up: a client that waits that long is not refused again.
    `reason` is set where one code stands for several causes that clients show in different ways. `event` is the name
    of the client's event that has failed, if that was sent without an ack.
    """

    code: str
    status: int
    detail: str
    errors: tuple[FieldError, ...] | msgspec.UnsetType = msgspec.UNSET
    retry_after: int | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET
    event: str | msgspec.UnsetType = msgspec.UNSET


class Problem(ErrorView, frozen=True, kw_only=True):
    """An error as REST shows it: an RFC 9457 problem document."""

    type: str = "about:blank"
    title: str


class ChatError(Exception):
    """An error that may be shown to a client as it is. Subclasses fix its code and status.

    `title` is the HTTP reason phrase of the status (RFC 9110); `words` is the default detail.
    """

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal Server Error"
    words: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        retry_after: float | None = None,
        reason: str | msgspec.UnsetType = msgspec.UNSET,
    ) -> None:
        self.detail = detail or self.words
        super().__init__(self.detail)
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.reason = reason

    def body(self, event: str | msgspec.UnsetType = msgspec.UNSET) -> ErrorView:
        """The error as both transports show it; with `event` if that was sent without an ack."""
        return ErrorView(
            code=self.code,
            status=self.status,
            detail=self.detail,
            errors=self.errors or msgspec.UNSET,
            retry_after=msgspec.UNSET if self.retry_after is None else max(1, math.ceil(self.retry_after)),
            reason=self.reason,
            event=event,
        )

    def problem(self) -> Problem:
        """The error as REST shows it."""
        return Problem(title=self.title, **msgspec.structs.asdict(self.body()))


class ValidationFailed(ChatError):
    code, status, title = "VALIDATION_FAILED", 400, "Bad Request"
    words = "Bad input"

    @classmethod
    def at(cls, path: str, message: str) -> "ValidationFailed":
        """Bad input in one named field."""
        return cls.all([FieldError(path, message)])

    @classmethod
    def all(cls, errors: Sequence[FieldError]) -> "ValidationFailed":
        """Bad input in several fields; the detail names the first of them."""
        named = [f"{error.path}: {error.message}" if error.path else error.message for error in errors[:MAX_IN_DETAIL]]
        more = [f"and {len(errors) - MAX_IN_DETAIL} more"] if len(errors) > MAX_IN_DETAIL else []
        return cls("; ".join(named + more), errors=errors)


class Faults:
    """Context manager that collects the errors of several checks, and raises them together at its end."""

    def __init__(self) -> None:
        self._errors: list[FieldError] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if kind is None and self._errors:
            raise ValidationFailed.all(self._errors)

    def of(self, check: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of the check; None if it raised `ValidationFailed`, as the `with` block then raises at its end."""
        try:
            return check(*args, **kwargs)
        except ValidationFailed as failed:
            self._errors += failed.errors
            return cast(T, None)


class Unauthorized(ChatError):
    code, status, title = "UNAUTHORIZED", 401, "Unauthorized"
    words = "A valid token is needed"


class TokenExpired(ChatError):
    code, status, title = "TOKEN_EXPIRED", 401, "Unauthorized"
    words = "The token has expired"


class Forbidden(ChatError):
    code, status, title = "FORBIDDEN", 403, "Forbidden"
    words = "Not allowed"


class NotFound(ChatError):
    code, status, title = "NOT_FOUND", 404, "Not Found"
    words = "Not found"


class MethodNotAllowed(ChatError):
    code, status, title = "METHOD_NOT_ALLOWED", 405, "Method Not Allowed"
    words = "Method not allowed"


class Conflict(ChatError):
    code, status, title = "CONFLICT", 409, "Conflict"
    words = "Conflict"


class PayloadTooLarge(ChatError):
    code, status, title = "PAYLOAD_TOO_LARGE", 413, "Content Too Large"
    words = "Payload too large"

    @classmethod
    def over(cls, what: str, limit: int) -> "PayloadTooLarge":
        """`what` has more than `limit` bytes."""
        return cls(f"{what} may have at most {write_size(limit, ' ')}")


class UnsupportedMediaType(ChatError):
    code, status, title = "UNSUPPORTED_MEDIA_TYPE", 415, "Unsupported Media Type"
    words = "Unsupported media type"


class RangeNotSatisfiable(ChatError):
    code, status, title = "RANGE_NOT_SATISFIABLE", 416, "Range Not Satisfiable"
    words = "The range lies outside of the file"


class RateLimited(ChatError):
    """`limit` names what was used up: a setting, or a queue."""

    code, status, title = "RATE_LIMITED", 429, "Too Many Requests"
    words = "Too many requests"

    def __init__(self, detail: str = "", *, limit: str, retry_after: float) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.limit = limit


class Internal(ChatError):
    """An unexpected error. Its cause is logged, never shown."""


class Unavailable(ChatError):
    """A store does not answer; the same request may succeed later."""

    code, status, title = "UNAVAILABLE", 503, "Service Unavailable"
    words = "Temporarily unavailable"


class Unusable(Unavailable):
    """A store refuses this command because of its data or permissions. A retry does not help."""
