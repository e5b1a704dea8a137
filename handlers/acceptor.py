"""Takes new connections in, as many as there may be, and goes on where the system has no descriptors left for more."""

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

# Whoever is connected already has a turn after so many.
MOST_AT_ONCE: Final = 100
# Where accepting fails, it fails again at once, and the socket stays readable: trying without a pause would spin.
PAUSE: Final = 0.5
# Closed at such a failure, of those that rest, so that the next attempt succeeds.
ROOM: Final = 16
LOG_PERIOD: Final = 60.0
# Of a refused client's request, so that closing does not reset its connection before it has read the answer.
READ_BYTES: Final = 64 * 1024
Serve = Callable[[CountedStream, Any], None]


class Tally:
    """Says at once that something happened, and after that at most once a minute how often it did."""

    def __init__(self, say: Callable[[int], None]) -> None:
        self._say = say
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def count(self) -> None:
        self._count += 1
        if self._timer is None:
            self._tell()

    def _tell(self) -> None:
        self._timer = None
        if self._count:
            self._say(self._count)
            self._count = 0
            self._timer = asyncio.get_running_loop().call_later(LOG_PERIOD, self._tell)


class Acceptor:
    """Listens on sockets from `start` to `stop`; `serve` gets every connection that is let in."""

    def __init__(self, sockets: Sequence[socket], connections: ConnectionLimits, serve: Serve) -> None:
        self._sockets = sockets
        self._connections = connections
        self._serve = serve
        self._loop = asyncio.get_running_loop()
        self._pauses: dict[socket, asyncio.TimerHandle] = {}
        self._failure = ""
        self._latest = ""
        self._failed = Tally(
            lambda count: log.error("no connection can be accepted for a moment (%d): %s", count, self._failure)
        )
        self._full = Tally(
            lambda count: log.warning(
                "connections refused (%d): server.max_connections allows %d in all", count, connections.most
            )
        )
        self._crowded = Tally(
            lambda count: log.warning(
                "connections refused (%d), the last of %s: server.max_connections_per_address allows %s of one "
                "address; if this is a proxy of yours, name it in server.trusted_proxies",
                count,
                self._latest,
                connections.most_per_address,
            )
        )

    def start(self) -> None:
        for listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def stop(self) -> None:
        """Refuse new connections."""
        for listening in self._sockets:
            if listening in self._pauses:
                self._pauses.pop(listening).cancel()
            else:
                self._loop.remove_reader(listening)
            listening.close()

    def _accept(self, listening: socket) -> None:
        for _ in range(MOST_AT_ONCE):
            try:
                connection, address = listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                # It was closed while it waited.
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
        self._connections.make_room(ROOM)
        self._loop.remove_reader(listening)
        self._pauses[listening] = self._loop.call_later(PAUSE, self._resume, listening)

    def _resume(self, listening: socket) -> None:
        del self._pauses[listening]
        self._loop.add_reader(listening, self._accept, listening)

    def _refuse(self, connection: socket, address: Any, error: ChatError) -> None:
        if isinstance(error, RateLimited):
            self._latest = str(address[0])
            self._crowded.count()
        else:
            self._full.count()
        connection.setblocking(False)
        with connection, contextlib.suppress(OSError):
            connection.send(_answer(error))
            connection.shutdown(SHUT_WR)
            connection.recv(READ_BYTES)


def _answer(error: ChatError) -> bytes:
    """What a connection is told that gets no further, whatever it was to ask."""
    body = msgspec.json.encode({"type": "about:blank", "title": error.title, **error.body()})
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        "Server: madang",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        f"{REQUEST_ID}: {secrets.token_hex(8)}",
        f"Retry-After: {error.body().get('retryAfter', 1)}",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body
