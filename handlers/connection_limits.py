"""Connection limits: in total, so that file descriptors are left for work, and for each client address."""

import contextlib
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from socket import socket
from typing import Any, Final

from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream, UnsatisfiableReadError

from handlers.client_address import client_address, is_trusted
from handlers.descriptors import connections_within
from server.client_network import client_network
from server.config.settings import Settings
from server.errors import RateLimited, Unavailable

log = logging.getLogger(__name__)

# An office or a campus behind one address has some hundreds of users, with a socket and a few requests each.
MAX_PER_ADDRESS: Final = 1000
# One address gets at most this fraction (1/2) of all connections.
ADDRESS_DIVISOR: Final = 2
RETRY_SECONDS: Final = 5.0
# A client that has sent a request is likely to send another: between two polls lies a round trip.
IDLE_SECONDS: Final = 5.0

BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Slot:
    """One counted connection, from its admission until its descriptor is closed."""

    __slots__ = ("_connections", "_is_open", "_key", "_peer", "_proxied_key", "idle_since", "stream")

    def __init__(self, connections: "ConnectionLimits", peer: str, key: str | None) -> None:
        self._connections = connections
        self._peer = peer
        # None if the peer is a trusted proxy: each of its requests may come from another client.
        self._key = key
        self._proxied_key: str | None = None
        self._is_open = True
        # When the last request ended; 0 if there was none.
        self.idle_since = 0.0
        # None once no more requests come on it.
        self.stream: IOStream | None = None

    def begin(self, headers: HTTPHeaders) -> None:
        """Begin a request with these headers. Raises `RateLimited` if its client has too many connections."""
        self._connections.mark_busy(self)
        # The connection may have closed before its request is handled.
        if self._is_open and self._key is None and self._proxied_key is None:
            trusted = self._connections.trusted_proxies
            address = client_address(self._peer, headers, trusted)
            # A proxy that does not name the client may stand for any number of them.
            if not is_trusted(address, trusted):
                key = client_network(address)
                self._connections.count_in(key)
                self._proxied_key = key

    def end(self) -> None:
        """End the request. Until the next one begins, the connection may be closed in favour of a new one."""
        self._connections.count_out(self._proxied_key)
        self._proxied_key = None
        if self.stream is not None:
            self.idle_since = time.monotonic()
            self._connections.mark_idle(self)

    def detach_stream(self) -> None:
        """Leave `release` to the owner of a duplicated descriptor of this connection."""
        self.stream = None

    def release(self) -> None:
        """Count the connection out; its descriptor is closed."""
        self._is_open = False
        self._connections.remove(self)
        for key in (self._key, self._proxied_key):
            self._connections.count_out(key)
        self._key = self._proxied_key = self.stream = None


class ConnectionLimits:
    """All open connections. At the limit, an idle one is closed to admit a new one.

    Connections without any request so far are closed first, then those idle for `IDLE_SECONDS`, the longest idle first.
    """

    def __init__(self, max_total: int, max_per_address: int | None, trusted_proxies: Sequence[str]) -> None:
        self.trusted_proxies = trusted_proxies
        self.max_total = max_total
        self.max_per_address = max_per_address
        self._slots: set[Slot] = set()
        self._by_address: Counter[str] = Counter()
        # Connections without a request in progress, the earliest first: those that never had one, and the others.
        self._unused: OrderedDict[Slot, None] = OrderedDict()
        self._idle: OrderedDict[Slot, None] = OrderedDict()

    def admit(self, connection: socket, peer: str) -> "CountedStream":
        """Count a new connection in. Raises `RateLimited` or `Unavailable` if it exceeds a limit."""
        key = None if is_trusted(peer, self.trusted_proxies) else client_network(peer)
        if key is not None:
            self.count_in(key)
        if len(self._slots) >= self.max_total and not self.make_room(1):
            self.count_out(key)
            raise Unavailable("Too many connections", retry_after=RETRY_SECONDS)
        slot = Slot(self, peer, key)
        self._slots.add(slot)
        slot.stream = stream = CountedStream(connection, slot)
        self.mark_idle(slot)
        return stream

    def make_room(self, count: int) -> bool:
        """Close up to `count` idle connections; False if there is none."""
        latest = time.monotonic() - IDLE_SECONDS
        for done in range(count):
            slot = next(iter(self._unused or self._idle), None)
            if slot is None or slot.stream is None or slot.idle_since > latest:
                return done > 0
            slot.stream.close()
        return True

    def mark_busy(self, slot: Slot) -> None:
        """Exempt a connection with a request in progress from being closed."""
        self._unused.pop(slot, None)
        self._idle.pop(slot, None)

    def mark_idle(self, slot: Slot) -> None:
        """Undo `mark_busy`."""
        (self._idle if slot.idle_since else self._unused)[slot] = None

    def remove(self, slot: Slot) -> None:
        """Forget a closed connection."""
        self._slots.discard(slot)
        self.mark_busy(slot)

    def count_in(self, key: str) -> None:
        """Count one more connection of this client. Raises `RateLimited` if that exceeds its limit."""
        if self.max_per_address is not None and self._by_address[key] >= self.max_per_address:
            limit = "server.max_connections_per_address"
            raise RateLimited("Too many connections from one address", limit=limit, retry_after=RETRY_SECONDS)
        self._by_address[key] += 1

    def count_out(self, key: str | None) -> None:
        if key is None:
            return
        self._by_address[key] -= 1
        if not self._by_address[key]:
            del self._by_address[key]


class CountedStream(IOStream):
    """A connection that releases its slot when its descriptor is closed.

    A request head or chunk line that exceeds the buffer is answered with 400; Tornado would just close.
    """

    def __init__(self, connection: socket, slot: Slot) -> None:
        super().__init__(connection)
        self.slot = slot

    def close(self, exc_info: Any = False) -> None:
        if isinstance(exc_info, UnsatisfiableReadError) and not self.closed() and not self.writing():
            with contextlib.suppress(OSError):
                self.socket.send(BAD_REQUEST)
        super().close(exc_info)

    def close_fd(self) -> None:
        super().close_fd()
        if self.slot.stream is self:
            self.slot.release()


def slot_of(connection: Any) -> Slot:
    """The slot of a request's connection."""
    stream: IOStream = connection.stream
    if isinstance(stream, CountedStream):
        return stream.slot
    # Accepted by a server without limits.
    return Slot(ConnectionLimits(0, None, ()), "", None)


def bounds(settings: Settings, descriptors: int) -> tuple[int, int | None]:
    """The limits in total and for each address (None: unlimited), given the number of file descriptors."""
    possible, configured = connections_within(descriptors), settings.server.max_connections
    max_total = min(configured or possible, possible)
    if configured > max_total:
        log.warning(
            "server.max_connections lowered configured=%d max=%d file_descriptors=%d",
            configured,
            max_total,
            descriptors,
        )
    per_address = settings.server.max_connections_per_address
    if per_address:
        return max_total, per_address
    if not settings.limits.enabled:
        return max_total, None
    return max_total, min(MAX_PER_ADDRESS, max(1, max_total // ADDRESS_DIVISOR))
