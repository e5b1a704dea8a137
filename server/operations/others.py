"""Operations on files, health and the web page; most are answered by their handlers."""

from typing import Any, Final, NamedTuple

from server.context import Context
from server.errors import NotFound, PayloadTooLarge, RangeNotSatisfiable, Unauthorized, UnsupportedMediaType
from server.operations.operation import NOT_FOUND, Caller, Nothing, Operation
from server.protocol import Liveness, PageSettings, Readiness, UploadView


async def _find_unavailable(context: Context, _caller: Caller, _request: Nothing) -> Readiness:
    missing = await context.health.find_unavailable()
    return Readiness("unavailable" if missing else "ok", missing)


async def _tell_alive(_context: Context, _caller: Caller, _request: Nothing) -> Liveness:
    return Liveness()


class Scrape(NamedTuple):
    """A request for the metrics, with its bearer token or an empty text."""

    token: str


async def _read_metrics(context: Context, caller: Caller, request: Scrape) -> bytes:
    context.scrapers.check(caller.client.address, request.token)
    return context.metrics.expose()


UPLOAD: Final[Operation[Nothing, Any]] = Operation(
    "uploads.create",
    "Upload a file",
    "messages:write",
    Nothing,
    UploadView,
    None,
    frozenset({PayloadTooLarge, UnsupportedMediaType}),
)
GET_FILE: Final[Operation[Nothing, Any]] = Operation(
    "uploads.get", "A file, whole or in part", None, Nothing, bytes, None, frozenset({NotFound, RangeNotSatisfiable})
)
# Their handlers answer with what was made at the start.
DESCRIBE_REST: Final[Operation[Nothing, Any]] = Operation(
    "contract.describe_rest", "The contract of REST, as OpenAPI", None, Nothing, dict[str, Any], None
)
DESCRIBE_SOCKETS: Final[Operation[Nothing, Any]] = Operation(
    "contract.describe_sockets", "The contract of the sockets, as AsyncAPI", None, Nothing, dict[str, Any], None
)
TELL_ALIVE: Final = Operation("health.tell_alive", "Whether the process runs", None, Nothing, Liveness, _tell_alive)
FIND_UNAVAILABLE: Final = Operation(
    "health.find_unavailable", "Whether both stores answer", None, Nothing, Readiness, _find_unavailable
)
READ_METRICS: Final = Operation(
    "metrics.read",
    "The metrics, in Prometheus's text format",
    None,
    Scrape,
    bytes,
    _read_metrics,
    frozenset({Unauthorized}),
)
GET_WEB_FILE: Final[Operation[Nothing, Any]] = Operation(
    "web.get_file", "A file of the page", None, Nothing, bytes, None, NOT_FOUND
)
GET_WEB_SETTINGS: Final[Operation[Nothing, Any]] = Operation(
    "web.get_settings", "The settings of the page", None, Nothing, PageSettings, None, NOT_FOUND
)
