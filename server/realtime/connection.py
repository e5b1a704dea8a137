"""One authenticated socket: principal, transport, queued events, and pending acks and confirmations."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

from server.models import Principal, now
from server.realtime.frames import Frame

Acknowledge = Callable[[], None]


class Transport(Protocol):
    """Sends to one client, by its WebSocket or its polls. Disconnects a client that reads too slowly."""

    # What it is called in metrics.
    kind: ClassVar[str]
    # Whether frames may still arrive.
    is_open: bool

    def send(self, frame: Frame) -> None:
        """Send or queue one frame, in the order of these calls; never waits and never raises."""

    async def wait_sent(self) -> None:
        """Wait until everything has been sent or the transport is closed."""


class _NoTransport:
    """The transport of a closed connection."""

    kind: ClassVar[str] = "closed"
    is_open = False

    def send(self, frame: Frame) -> None:
        pass

    async def wait_sent(self) -> None:
        pass


_CLOSED: Final = _NoTransport()


class Connection:
    """A socket on `/chat`, from the answer to its CONNECT until it is closed.

    Frames are sent in the order of `send`, also across an upgrade, which replaces `transport`.
    """

    __slots__ = (
        "_acks",
        "_awaiting_pong",
        "_next_ack",
        "_waiting",
        "capacity_freed",
        "confirmed",
        "delivered",
        "engine_sid",
        "flushed",
        "inbox",
        "opened_at",
        "pending_events",
        "pinged",
        "principal",
        "sid",
        "since",
        "transport",
    )

    def __init__(self, sid: str, engine_sid: str, transport: Transport, principal: Principal) -> None:
        self.sid = sid
        self.engine_sid = engine_sid
        self.transport = transport
        self.principal = principal
        self.opened_at = now()
        # None while no event is queued, to save memory on idle connections.
        self.inbox: deque[Any] | None = None
        self.pending_events = 0
        # Messages flushed to it from the offline queue: their room and position, and the id of their queue entry.
        self.flushed: dict[tuple[str, int], bytes] = {}
        # Numbers of live deliveries: the last before this connection, the last sent on it, the last sent before the
        # latest ping, and the last confirmed.
        self.since = self.delivered = self.pinged = self.confirmed = 0
        self.capacity_freed: asyncio.Future[None] | None = None
        self._acks: dict[int, tuple[int, Acknowledge]] = {}
        self._next_ack = 0
        self._awaiting_pong: list[tuple[float, Acknowledge]] = []
        self._waiting: asyncio.Future[None] | None = None

    @property
    def user_id(self) -> str:
        return self.principal.user_id

    @property
    def is_open(self) -> bool:
        """False once it is closed or being cut off."""
        return self.transport.is_open

    def send(self, frame: Frame) -> None:
        """Send or queue one frame; never waits and never raises."""
        self.transport.send(frame)

    async def wait_sent(self) -> None:
        """Wait until everything has been sent or the socket is closed. For one caller at a time."""
        transport: Transport | None = None
        while transport is not self.transport:
            # An upgrade moves unsent frames to another transport.
            transport = self.transport
            self._waiting = asyncio.ensure_future(transport.wait_sent())
            await asyncio.wait([self._waiting])
        self._waiting = None

    def request_ack(self, on_ack: Acknowledge) -> int:
        """The ack id for the next event; `on_ack` runs when the client acknowledges it."""
        self._next_ack += 1
        self._acks[self._next_ack] = self.delivered, on_ack
        return self._next_ack

    def acknowledge(self, ack_id: int) -> None:
        """Handle an ack of the client; unknown ids are ignored."""
        known = self._acks.pop(ack_id, None)
        if known is not None:
            # Frames arrive in order: deliveries before that event have arrived too.
            delivered, on_ack = known
            self.confirm(delivered)
            on_ack()

    def begin_deliveries(self, latest: int) -> None:
        """Start with the delivery after `latest`; all later ones are sent on this connection."""
        self.since = self.delivered = self.pinged = self.confirmed = latest

    def confirm(self, number: int) -> None:
        """Note that the live deliveries up to this number have arrived."""
        self.confirmed = max(self.confirmed, number)

    @property
    def is_unconfirmed(self) -> bool:
        """Whether a delivery on it is not confirmed."""
        return self.delivered > self.confirmed

    def note_ping(self) -> None:
        """Note that a ping is sent now."""
        self.pinged = self.delivered

    def when_confirmed(self, on_confirmed: Acknowledge) -> None:
        """Run `on_confirmed` when a ping sent after this call has been answered."""
        self._awaiting_pong.append((time.monotonic(), on_confirmed))

    def take_pong(self, sent_at: float) -> None:
        """Handle the answer to the last ping, which was sent at `sent_at` (monotonic clock)."""
        self.confirm(self.pinged)
        confirmed = [callback for asked_at, callback in self._awaiting_pong if asked_at < sent_at]
        self._awaiting_pong = [waiting for waiting in self._awaiting_pong if waiting[0] >= sent_at]
        for callback in confirmed:
            callback()

    def close(self) -> None:
        """Drop pending acks and confirmations; called when the socket is closed."""
        self.transport = _CLOSED
        if self._waiting is not None:
            self._waiting.cancel()
        self._acks.clear()
        self._awaiting_pong.clear()
