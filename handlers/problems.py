"""Maps exceptions to errors and writes them as RFC 9457 problem documents."""

import msgspec
from tornado.web import HTTPError, RequestHandler

from server import errors
from server.errors import ChatError

BY_STATUS: dict[int, type[ChatError]] = {
    kind.status: kind
    for kind in (
        errors.ValidationFailed,
        errors.Unauthorized,
        errors.Forbidden,
        errors.NotFound,
        errors.MethodNotAllowed,
        errors.PayloadTooLarge,
        errors.UnsupportedMediaType,
        errors.Unavailable,
    )
}


def write_problem(handler: RequestHandler, error: ChatError) -> None:
    """Write an error as an RFC 9457 problem document."""
    problem = error.problem()
    if problem.retry_after is not msgspec.UNSET:
        handler.set_header("Retry-After", str(problem.retry_after))
    handler.set_status(error.status, error.title)
    handler.set_header("Content-Type", "application/problem+json")
    handler.write(msgspec.json.encode(problem))


def to_chat_error(error: BaseException | None, status: int = 500) -> ChatError:
    """The error that a client may see for an exception; `status` is used if it is none of ours or Tornado's."""
    if isinstance(error, ChatError):
        return error
    if isinstance(error, HTTPError):
        kind = BY_STATUS.get(error.status_code, errors.ValidationFailed if error.status_code < 500 else errors.Internal)
        return kind()
    return BY_STATUS.get(status, errors.Internal)()
