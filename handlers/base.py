"""Base class of all REST handlers: authentication by default, body limit, parsing, answers and error documents."""

import asyncio
import logging
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from tornado.web import HTTPError, RequestHandler, stream_request_body

from handlers.client_address import client_address
from handlers.compression import compress
from handlers.connection_limits import slot_of
from handlers.endpoint import JSON, Endpoint
from handlers.origins import allow_origin
from handlers.problems import to_chat_error, write_problem
from handlers.request_id import HEADER as REQUEST_ID
from handlers.request_id import identify
from handlers.slow_clients import PIECE_BYTES, buffered_size, end_connection, end_unless_taken, write_pieces
from server import errors
from server.context import Context
from server.errors import ChatError
from server.inbound import parse_arguments, parse_json
from server.log.context import note_caller
from server.models import Client, Principal
from server.operations.executor import execute
from server.operations.operation import NOTHING, Caller

log = logging.getLogger(__name__)
T = TypeVar("T")

JSON_UTF8: Final = f"{JSON}; charset=utf-8"

# RFC 8259, and the +json types of RFC 6839; parameters are ignored.
JSON_TYPE: Final = re.compile(r"application/(?:[a-z0-9!#$&^_.-]+\+)?json")
# A longer Content-Length is treated as `sys.maxsize`: Python refuses to parse numbers of thousands of digits.
MAX_LENGTH_DIGITS: Final = len(str(sys.maxsize))
# Delay before a rate-limit error, which slows down clients that retry at once.
REFUSAL_PAUSE: Final = 0.5
# Browsers say about 120 characters of themselves.
MAX_USER_AGENT: Final = 300
# A refused body is read and discarded up to this size, so that the client gets the answer instead of a reset.
DRAIN_LIMIT = 256 * 1024 * 1024
# As of the draft of the IETF (draft-ietf-httpapi-idempotency-key-header).
IDEMPOTENCY_KEY: Final = "Idempotency-Key"
# What pages of other origins may send.
ALLOWED_HEADERS: Final = f"Authorization, Content-Type, {IDEMPOTENCY_KEY}, {REQUEST_ID}"


@stream_request_body
class ApiHandler(RequestHandler):
    """A route. Requests are authenticated before their body is read, unless the operation of their method is public."""

    context: Context
    principal: Principal

    def initialize(self, context: Context, endpoints: Mapping[str, Endpoint]) -> None:
        """`endpoints` has what each method does; HEAD is GET."""
        self.context = context
        self._endpoints = endpoints
        self._chunks: list[bytes] = []
        self._received = 0
        headers = self.request.headers
        self._leaves_body = "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0"
        connection: Any = self.request.connection
        connection.set_max_body_size(max(DRAIN_LIMIT, self.max_body))
        self.slot = slot_of(connection)
        self._allow_origin()

    @property
    def max_body(self) -> int:
        """The maximum body size in bytes."""
        return self.context.settings.server.max_payload

    def too_large(self) -> errors.PayloadTooLarge:
        """The error for a body of more than `max_body` bytes."""
        return errors.PayloadTooLarge.over("The body", self.max_body)

    async def prepare(self) -> None:
        try:
            self.slot.begin(self.request.headers)
            await self.admit()
        except Exception as error:
            if self._is_undrainable():
                raise
            # An answer before the end of the request, even of one without a body, would close the connection, and the
            # client's next request would be lost.
            self._answer_after_body(error)
        self._leaves_body = False

    async def admit(self) -> None:
        """Authenticate the request and set `principal`, before its body is read. Raises if it is refused."""
        if self.request.method == "OPTIONS":
            return
        if self.request.method not in self.allowed_methods():
            raise errors.MethodNotAllowed
        if not self.endpoint.operation.is_public:
            self.principal = await self.context.authenticators.authenticate(self._bearer_token())
            note_caller(self.principal.user_id)
        if self._is_undrainable():
            self._check_size(self._declared_size())

    def on_finish(self) -> None:
        self.slot.end()

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        # Raising here would close the connection without an answer; `parse` refuses oversized bodies.
        self._received += len(chunk)
        if self._received <= self.max_body:
            self._chunks.append(chunk)
        return None

    def set_default_headers(self) -> None:
        self.set_header(REQUEST_ID, identify(self.request))
        self.set_header("Server", "madang")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")

    async def head(self, *path: str) -> None:
        """Same as GET; Tornado sends only the headers."""
        answering = self.get(*path)
        if answering is not None:
            await answering

    def options(self, *_path: str) -> None:
        """Answer a CORS preflight; `_allow_origin` has set its headers."""
        self.set_header("Allow", ", ".join(self.allowed_methods()))
        self.set_status(204)

    async def execute(self, read: Callable[[], Any] = lambda: NOTHING) -> Any:
        """Execute the operation of this method; `read` parses its request. Returns the reply, or raises a `ChatError`.

        `RateLimited` is delayed for reads and changes, which clients would repeat at once.
        """
        operation = self.endpoint.operation
        caller = Caller(None if operation.is_public else self.principal, self.client())
        try:
            return await execute(self.context, caller, operation, read)
        except errors.RateLimited:
            if self.request.method != "POST":
                await asyncio.sleep(REFUSAL_PAUSE)
            raise

    def parse(self, kind: type[T], **path_fields: str) -> T:
        """The JSON body as `kind`; `path_fields` (wire names) override fields of the body.

        Raises `PayloadTooLarge`, `UnsupportedMediaType` or `ValidationFailed`.
        """
        self.endpoint.check_body(kind)
        return self.peek(kind, **path_fields)

    def peek(self, kind: type[T], **path_fields: str) -> T:
        """The same for a part of the body, which tells of what kind the whole is."""
        self._check_size(self._received)
        self._check_type()
        return parse_json(b"".join(self._chunks), kind, path_fields)

    def parse_query(self, kind: type[T]) -> T:
        """The query arguments as `kind`; the last of a repeated argument counts."""
        self.endpoint.check_query(kind)
        # Tornado's getter would silently strip control characters.
        arguments = {name: values[-1] for name, values in self.request.query_arguments.items()}
        return parse_arguments(arguments, kind)

    def client(self) -> Client:
        return Client(self.client_address(), self.request.headers.get("User-Agent", "")[:MAX_USER_AGENT])

    def client_address(self) -> str:
        """The client's address, for limits; behind `server.trusted_proxies` that of the forwarded client."""
        peer = self.request.remote_ip or ""
        return client_address(peer, self.request.headers, self.context.settings.server.trusted_proxies)

    def answer(self, value: Any, status: int | None = None) -> None:
        """Answer with the first declared status, or with another one of these."""
        self._set_declared(self.endpoint.statuses[0] if status is None else status)
        self.set_header("Content-Type", JSON_UTF8)
        self.write(msgspec.json.encode(value))

    async def answer_large(self, value: Any) -> None:
        """Like `answer`; compressed if the endpoint and the client allow it, and sent in pieces as the client reads."""
        self._set_declared(self.endpoint.statuses[0])
        self.set_header("Content-Type", JSON_UTF8)
        body = msgspec.json.encode(value)
        if self.endpoint.is_compressible:
            body = await compress(self, body)
        if len(body) <= PIECE_BYTES or self.request.method == "HEAD":
            self.write(body)
            return
        unsent = self.context.hub.unsent
        # Those without a name share one allowance.
        user_id = "" if self.endpoint.operation.is_public else self.principal.user_id
        await write_pieces(self, body, lambda waiting: unsent.note(self, user_id, waiting))

    def cut(self) -> None:
        """Close the connection to free the memory of the unsent answer."""
        end_connection(self)

    def finish(self, chunk: Any = None) -> "asyncio.Future[None]":
        if chunk is not None:
            self.write(chunk)
        size = buffered_size(self)
        written = super().finish()
        end_unless_taken(self, written, size)
        return written

    def answer_nothing(self) -> None:
        self._set_declared(204)

    def decode_argument(self, value: bytes, name: str | None = None) -> str:  # noqa: ARG002 - passed by this name
        """A part of the path as text. Invalid UTF-8 is replaced and so matches nothing."""
        return value.decode("utf-8", "replace")

    def allowed_methods(self) -> Sequence[str]:
        """The methods of this route, without OPTIONS; with HEAD if it has GET."""
        return [*self._endpoints, *(["HEAD"] if "GET" in self._endpoints else [])]

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Write any failure as RFC 9457 `application/problem+json`."""
        error = to_chat_error(kwargs.get("exc_info", (None, None, None))[1], status_code)
        self._allow_origin()
        if isinstance(error, errors.Unauthorized | errors.TokenExpired):
            self.set_header("WWW-Authenticate", "Bearer")
        if isinstance(error, errors.MethodNotAllowed):
            self.set_header("Allow", ", ".join(self.allowed_methods()))
        if self._leaves_body or isinstance(error, errors.PayloadTooLarge):
            self.set_header("Connection", "close")
        self.answer_problem(error)

    def answer_problem(self, error: ChatError) -> None:
        """Answer with an error; headers already set are kept."""
        self.context.metrics.note_refusal(error)
        write_problem(self, error)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, ChatError | HTTPError):
            return
        # Not the path: it names rooms and users.
        log.error(
            "request failed method=%s handler=%s", self.request.method, type(self).__name__, exc_info=(typ, value, tb)
        )

    @property
    def endpoint(self) -> Endpoint:
        """What the requested method does."""
        return self._endpoints["GET" if self.request.method == "HEAD" else str(self.request.method)]

    def _set_declared(self, status: int) -> None:
        self.endpoint.check_status(status)
        self.set_status(status)

    def _bearer_token(self) -> str:
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise errors.Unauthorized
        return token.strip()

    def _answer_after_body(self, error: Exception) -> None:
        """Discard the body, then raise `error` instead of running the method."""

        def refuse(*_path: str) -> None:
            raise error

        self._received = self.max_body + 1
        setattr(self, str(self.request.method).lower(), refuse)

    def _is_undrainable(self) -> bool:
        """Whether the body is not sent yet or too large to be discarded; the answer then comes before its end.

        For any other body that would reset the connection of a client that still sends, and lose the answer.
        """
        waits = self.request.headers.get("Expect", "").lower() == "100-continue"
        return waits or self._declared_size() > max(DRAIN_LIMIT, self.max_body)

    def _declared_size(self) -> int:
        declared = self.request.headers.get("Content-Length", "0")
        if not declared.isdecimal():
            return 0
        return int(declared) if len(declared) <= MAX_LENGTH_DIGITS else sys.maxsize

    def _check_size(self, size: int) -> None:
        if size > self.max_body:
            raise self.too_large()

    def _check_type(self) -> None:
        """Refuse a body with another Content-Type than JSON; a missing Content-Type is accepted."""
        named = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if named and self._received and not JSON_TYPE.fullmatch(named):
            raise errors.UnsupportedMediaType("The body must be application/json")

    def _allow_origin(self) -> None:
        if allow_origin(self, self.context.settings):
            self.set_header("Access-Control-Allow-Methods", ", ".join(self.allowed_methods()))
            allowed = ", ".join((ALLOWED_HEADERS, *self.context.settings.cors.headers))
            self.set_header("Access-Control-Allow-Headers", allowed)
            self.set_header("Access-Control-Expose-Headers", f"Retry-After, WWW-Authenticate, {REQUEST_ID}")
            self.set_header("Access-Control-Max-Age", "600")


class UnknownPath(ApiHandler):
    """Answers 404 for every path without a route."""

    async def admit(self) -> None:
        raise errors.NotFound("No such path")
