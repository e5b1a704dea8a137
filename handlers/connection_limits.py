"""How many connections there may be: in all, so that descriptors are left for work, and of one client address."""

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

# An office or a campus behind one address has some hundreds of people, with a socket and a few requests each.
MOST_PER_ADDRESS: Final = 1000
# So that one address alone never takes all.
SHARE_OF_ADDRESS: Final = 2
RETRY_SECONDS: Final = 5.0
# Whoever has asked something is likely to ask again: between two polls of a client lies the way there and back.
REST_SECONDS: Final = 5.0

BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Place:
    """One of the connections that there may be, from its begin until its descriptor is closed."""

    __slots__ = ("_connections", "_is_open", "_key", "_peer", "_proxied_key", "rested_at", "stream")

    def __init__(self, connections: "ConnectionLimits", peer: str, key: str | None) -> None:
        self._connections = connections
        self._peer = peer
        # None where the peer is a trusted proxy: many clients are behind it, and each request may be of another one.
        self._key = key
        self._proxied_key: str | None = None
        self._is_open = True
        # Since when no request is under way; 0 where there has been none.
        self.rested_at = 0.0
        # None where no request comes on it any more.
        self.stream: IOStream | None = None

    def begin(self, headers: HTTPHeaders) -> None:
        """A request with these headers is being worked on. Raises `RateLimited` where its client has too many."""
        self._connections.wake(self)
        # It may be gone before its request has been looked at.
        if self._is_open and self._key is None and self._proxied_key is None:
            trusted = self._connections.trusted_proxies
            address = client_address(self._peer, headers, trusted)
            # Of a proxy that does not say whose request it is, nobody knows how many clients it stands for.
            if not is_trusted(address, trusted):
                key = client_network(address)
                self._connections.count_in(key)
                self._proxied_key = key

    def end(self) -> None:
        """The request has been answered; until the next one begins, the connection is anybody's."""
        self._connections.count_out(self._proxied_key)
        self._proxied_key = None
        if self.stream is not None:
            self.rested_at = time.monotonic()
            self._connections.disable_pings(self)

    def leave_stream(self) -> None:
        """Somebody else has another descriptor of this connection, and is the one to release the place."""
        self.stream = None

    def release(self) -> None:
        """The descriptor is closed."""
        self._is_open = False
        self._connections.leave(self)
        for key in (self._key, self._proxied_key):
            self._connections.count_out(key)
        self._key = self._proxied_key = self.stream = None


class ConnectionLimits:
    """All that are open. Where all are that may be, one that has no request under way makes room for a new one.

    Those go first that have never had one, and then those that have rested for a while, the longest first.
    """

    def __init__(self, most: int, most_per_address: int | None, trusted_proxies: Sequence[str]) -> None:
        self.trusted_proxies = trusted_proxies
        self.most = most
        self.most_per_address = most_per_address
        self._places: set[Place] = set()
        self._by_address: Counter[str] = Counter()
        # Those without a request, the earliest first.
        self._silent: OrderedDict[Place, None] = OrderedDict()
        self._resting: OrderedDict[Place, None] = OrderedDict()

    def admit(self, connection: socket, peer: str) -> "CountedStream":
        """Count a new connection in. Raises `RateLimited` or `Unavailable` where it is one too many."""
        key = None if is_trusted(peer, self.trusted_proxies) else client_network(peer)
        if key is not None:
            self.count_in(key)
        if len(self._places) >= self.most and not self.make_room(1):
            self.count_out(key)
            raise Unavailable("Too many connections", retry_after=RETRY_SECONDS)
        place = Place(self, peer, key)
        self._places.add(place)
        place.stream = stream = CountedStream(connection, place)
        self.disable_pings(place)
        return stream

    def make_room(self, count: int) -> bool:
        """Close so many of those that have no request; False where there are none."""
        latest = time.monotonic() - REST_SECONDS
        for done in range(count):
            place = next(iter(self._silent or self._resting), None)
            if place is None or place.stream is None or place.rested_at > latest:
                return done > 0
            place.stream.close()
        return True

    def wake(self, place: Place) -> None:
        """A request is under way there."""
        self._silent.pop(place, None)
        self._resting.pop(place, None)

    def disable_pings(self, place: Place) -> None:
        """None is."""
        (self._resting if place.rested_at else self._silent)[place] = None

    def leave(self, place: Place) -> None:
        """Its connection is closed."""
        self._places.discard(place)
        self.wake(place)

    def count_in(self, key: str) -> None:
        """One more of this client. Raises `RateLimited` where that is one too many."""
        if self.most_per_address is not None and self._by_address[key] >= self.most_per_address:
            raise RateLimited("Too many connections from one address", retry_after=RETRY_SECONDS)
        self._by_address[key] += 1

    def count_out(self, key: str | None) -> None:
        if key is None:
            return
        self._by_address[key] -= 1
        if not self._by_address[key]:
            del self._by_address[key]


class CountedStream(IOStream):
    """A connection whose place is free again when its descriptor is closed.

    A client that sends a head, or a line of a chunked body, without an end is told so: Tornado would just close.
    """

    def __init__(self, connection: socket, place: Place) -> None:
        super().__init__(connection)
        self.place = place

    def close(self, exc_info: Any = False) -> None:
        if isinstance(exc_info, UnsatisfiableReadError) and not self.closed() and not self.writing():
            with contextlib.suppress(OSError):
                self.socket.send(BAD_REQUEST)
        super().close(exc_info)

    def close_fd(self) -> None:
        super().close_fd()
        if self.place.stream is self:
            self.place.release()


def place_of(connection: Any) -> Place:
    """That of a request's connection."""
    stream: IOStream = connection.stream
    if isinstance(stream, CountedStream):
        return stream.place
    # Accepted by a server that bounds nothing.
    return Place(ConnectionLimits(0, None, ()), "", None)


def bounds(settings: Settings, descriptors: int) -> tuple[int, int | None]:
    """The most connections in all, and of one address (None: no bound), where there are so many descriptors."""
    possible, asked = connections_within(descriptors), settings.server.max_connections
    most = min(asked or possible, possible)
    if asked > most:
        log.warning("server.max_connections is %d, but %d file descriptors allow %d", asked, descriptors, most)
    per_address = settings.server.max_connections_per_address
    if per_address:
        return most, per_address
    if not settings.limits.enabled:
        return most, None
    return most, min(MOST_PER_ADDRESS, max(1, most // SHARE_OF_ADDRESS))
