"""Accepts connections up to the limits, and keeps running when the system has no file descriptors left."""

import asyncio
import contextlib
import errno
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from http import HTTPStatus
from socket import SHUT_WR, socket
from typing import Any, Final

import msgspec

from handlers.connection_limits import ConnectionLimits, CountedStream
from handlers.request_id import HEADER as REQUEST_ID
from server.errors import ChatError, RateLimited

log = logging.getLogger(__name__)

# Accepted at once before the event loop serves existing connections.
MAX_ACCEPTS: Final = 100
# After a failed accept the socket stays readable and the next try fails too: without a pause the loop would spin.
PAUSE: Final = 0.5
# Idle connections to close after such a failure, so that the next attempt succeeds.
CLOSED_AT_FAILURE: Final = 16
LOG_PERIOD: Final = 60.0
# Read from a refused client before closing: unread input would reset the connection before it has read the answer.
DRAIN_BYTES: Final = 64 * 1024
Serve = Callable[[CountedStream, Any], None]

MAX_CONNECTIONS: Final = "server.max_connections"


class ThrottledCount:
    """Reports the first event at once, then a count of later ones at most once every `LOG_PERIOD` seconds."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def count(self) -> None:
        self._count += 1
        if self._timer is None:
            self._report_count()

    def _report_count(self) -> None:
        self._timer = None
        if self._count:
            self._report(self._count)
            self._count = 0
            self._timer = asyncio.get_running_loop().call_later(LOG_PERIOD, self._report_count)


class Acceptor:
    """Listens on sockets from `start` to `stop` and passes every admitted connection to `serve`."""

    def __init__(
        self, sockets: Sequence[socket], connections: ConnectionLimits, serve: Serve, note_limit: Callable[[str], None]
    ) -> None:
        """`note_limit` is called with the limit of each refusal."""
        self._sockets = sockets
        self._connections = connections
        self._serve = serve
        self._note_limit = note_limit
        self._loop = asyncio.get_running_loop()
        self._pauses: dict[socket, asyncio.TimerHandle] = {}
        self._failure = ""
        self._last_address = ""
        self._failed = ThrottledCount(
            lambda count: log.error("accepting connections failed count=%d error=%s", count, self._failure)
        )
        self._full = ThrottledCount(
            lambda count: log.warning(
                "connections refused count=%d limit=server.max_connections max=%d", count, connections.max_total
            )
        )
        self._crowded_address = ThrottledCount(
            lambda count: log.warning(
                "connections refused count=%d limit=server.max_connections_per_address max=%s last_address=%s; "
                "if that is your proxy, add it to server.trusted_proxies",
                count,
                connections.max_per_address,
                self._last_address,
            )
        )

    def start(self) -> None:
        for listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def stop(self) -> None:
        """Close the listening sockets."""
        for listening in self._sockets:
            if listening in self._pauses:
                self._pauses.pop(listening).cancel()
            else:
                self._loop.remove_reader(listening)
            listening.close()

    def _accept(self, listening: socket) -> None:
        for _ in range(MAX_ACCEPTS):
            try:
                connection, address = listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                # The client closed it while it was queued.
                continue
            except OSError as error:
                self._pause(listening, error)
                return
            try:
                stream = self._connections.admit(connection, str(address[0]) if address else "")
            except ChatError as error:
                self._refuse(connection, address, error)
            else:
                self._serve(stream, address)

    def _pause(self, listening: socket, error: OSError) -> None:
        self._failure = f"{os.strerror(error.errno or 0)} ({errno.errorcode.get(error.errno or 0, '?')})"
        self._failed.count()
        self._connections.make_room(CLOSED_AT_FAILURE)
        self._loop.remove_reader(listening)
        self._pauses[listening] = self._loop.call_later(PAUSE, self._resume, listening)

    def _resume(self, listening: socket) -> None:
        del self._pauses[listening]
        self._loop.add_reader(listening, self._accept, listening)

    def _refuse(self, connection: socket, address: Any, error: ChatError) -> None:
        if isinstance(error, RateLimited):
            self._last_address = str(address[0])
            self._crowded_address.count()
            self._note_limit(error.limit)
        else:
            self._full.count()
            self._note_limit(MAX_CONNECTIONS)
        connection.setblocking(False)
        with connection, contextlib.suppress(OSError):
            connection.send(_answer(error))
            connection.shutdown(SHUT_WR)
            connection.recv(DRAIN_BYTES)


def _answer(error: ChatError) -> bytes:
    """The HTTP response for a refused connection; its request is not read."""
    problem = error.problem()
    body = msgspec.json.encode(problem)
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        "Server: madang",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        f"{REQUEST_ID}: {secrets.token_hex(8)}",
        f"Retry-After: {problem.retry_after or 1}",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body
