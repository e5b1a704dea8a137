"""Operation: one verb of the server, declared once for all transports."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Generic, NamedTuple, TypeVar

from server.context import Context
from server.errors import ChatError, Conflict, NotFound, Unauthorized
from server.models import Client, Principal
from server.realtime.connection import Connection
from server.services.room_log.pending import PendingMessage

Q = TypeVar("Q")
R = TypeVar("R")


NOT_FOUND: Final = frozenset[type[ChatError]]({NotFound})
CHANGE_ERRORS: Final = frozenset[type[ChatError]]({Conflict, NotFound})


class Nothing(NamedTuple):
    """The request of an operation that takes nothing, and the reply of one that gives nothing."""


NOTHING: Final = Nothing()


class Limit(Enum):
    """What a call counts against, before its input is read. Services count what needs more than the caller.

    Over sockets everything but a message counts as an event.
    """

    NONE = auto()
    READS = auto()
    MESSAGES = auto()


class Caller(NamedTuple):
    """Who calls: the principal, None if it is not known; the client over REST; the connection over sockets."""

    principal: Principal | None
    client: Client = Client()
    connection: Connection | None = None

    @property
    def user_id(self) -> str:
        return self.known.user_id

    @property
    def known(self) -> Principal:
        """The principal of an operation that is not public."""
        if self.principal is None:
            raise Unauthorized
        return self.principal


class Made(NamedTuple):
    """A reply that may have been there before the call."""

    value: Any
    is_new: bool


class Placed(NamedTuple):
    """For transports that go on before a message is stored: the way to its place in the write queue.

    `place_now` does not wait: it returns None, without effects, where `place` would have to.
    """

    place: Callable[[Context, Any], Awaitable[PendingMessage]]
    place_now: Callable[[Context, Any], PendingMessage | None]


@dataclass(frozen=True, slots=True)
class Operation(Generic[Q, R]):
    """A verb with what it takes, gives and may refuse. `summary` says in a line what it does.

    `scope` is what a principal must be allowed; None makes the operation public. `check` looks at what needs no store,
    before anything else does, and returns what `call` gets. `is_delegated`: the token itself must name the scope, as
    it is about other people. `errors` names the refusals beside those that every
    operation may give (`COMMON_ERRORS`). Without `call`, its handler streams the answer.
    """

    name: str
    summary: str
    scope: str | None
    request: type[Q]
    reply: Any
    call: Callable[[Context, Caller, Any], Awaitable[R]] | None
    errors: frozenset[type[ChatError]] = frozenset()
    limit: Limit = Limit.NONE
    check: Callable[[Context, Caller, Q], Any] | None = None
    placed: Placed | None = None
    is_delegated: bool = False

    @property
    def is_public(self) -> bool:
        return self.scope is None
