"""The one way into every operation: limit, parse, authorise, call, observe, in this order."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from server.context import Context
from server.errors import (
    ChatError,
    Forbidden,
    Internal,
    RateLimited,
    TokenExpired,
    Unauthorized,
    Unavailable,
    ValidationFailed,
)
from server.metrics import OK
from server.operations.operation import Caller, Limit, Operation

log = logging.getLogger(__name__)
Q = TypeVar("Q")
R = TypeVar("R")

# What every operation may refuse with.
COMMON_ERRORS: Final = frozenset(
    {ValidationFailed, Unauthorized, TokenExpired, Forbidden, RateLimited, Unavailable, Internal}
)


async def execute(context: Context, caller: Caller, operation: Operation[Q, R], read: Callable[[], Q]) -> R:
    """`admit`, then `perform`. Raises a `ChatError`, and no other exception but of a cancelled task."""
    return await perform(context, caller, operation, admit(context, caller, operation, read))


def admit(
    context: Context, caller: Caller, operation: Operation[Q, Any], read: Callable[[], Q], *, size: int = 0
) -> Any:
    """Count the call, then parse its input with `read`, and check what needs no store. Returns what `perform` takes.

    The limit comes first, so that malformed input counts too. `size` is that of an event in bytes.
    """
    try:
        return _admit(context, caller, operation, read, size)
    except ChatError as error:
        context.metrics.note_operation(operation.name, error.code, 0.0)
        raise


def _admit(context: Context, caller: Caller, operation: Operation[Q, Any], read: Callable[[], Q], size: int) -> Any:
    if operation.limit is Limit.MESSAGES:
        context.limits.check_message(caller.user_id)
    elif caller.connection is not None:
        context.limits.check_event(caller.user_id, size)
    elif operation.limit is Limit.READS:
        context.limits.check_read(caller.user_id)
    request = read()
    authorise(caller, operation)
    return request if operation.check is None else operation.check(context, caller, request)


def authorise(caller: Caller, operation: Operation[Any, Any]) -> None:
    """Raise `Unauthorized` or `Forbidden` unless the caller may call this. Objects are checked by their services."""
    if operation.scope is None:
        return
    if caller.principal is None:
        raise Unauthorized
    may = caller.principal.is_granted if operation.is_delegated else caller.principal.may
    if not may(operation.scope):
        raise Forbidden(f"The token lacks the scope {operation.scope}")


async def perform(context: Context, caller: Caller, operation: Operation[Any, R], admitted: Any) -> R:
    """Call the service. An unknown error is logged and raised as `Internal`."""
    if operation.call is None:
        raise RuntimeError(f"{operation.name} is answered by its handler")
    begun = time.monotonic()
    try:
        reply = await operation.call(context, caller, admitted)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        known = to_chat_error(operation, error)
        observe(context, operation, begun, known)
        raise known from error
    observe(context, operation, begun, None)
    return reply


def to_chat_error(operation: Operation[Any, Any], error: BaseException) -> ChatError:
    """The error that the client sees. An unknown one is logged, and tells nothing."""
    if isinstance(error, ChatError):
        return error
    if isinstance(error, TimeoutError | asyncio.CancelledError):
        return Unavailable("It took too long")
    log.error("operation failed operation=%s", operation.name, exc_info=error)
    return Internal()


def observe(context: Context, operation: Operation[Any, Any], begun: float, error: ChatError | None) -> None:
    """Every call that was admitted ends here, with its outcome and its duration."""
    context.metrics.note_operation(operation.name, OK if error is None else error.code, time.monotonic() - begun)
    if log.isEnabledFor(logging.DEBUG):
        outcome = "OK" if error is None else error.code
        log.debug(
            "operation finished operation=%s outcome=%s seconds=%.4f", operation.name, outcome, time.monotonic() - begun
        )
