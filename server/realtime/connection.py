"""One authenticated socket: its identity, what waits to be read from it and what waits to be sent to it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from server.models import Identity, now
from server.realtime.frames import Frame

Acknowledge = Callable[[], None]


class Transport(Protocol):
    """The way to the client: its WebSocket, or the queue for its polls. It cuts off who reads too slowly."""

    # Whether what is sent has a chance to arrive.
    is_open: bool

    def send(self, frame: Frame) -> None:
        """Send or queue one frame, in the order of these calls; never waits and never raises."""

    async def wait_sent(self) -> None:
        """Until what was sent has left, or cannot leave any more."""


class _NoTransport:
    """The way to a client that is gone."""

    is_open = False

    def send(self, frame: Frame) -> None:
        pass

    async def wait_sent(self) -> None:
        pass


_GONE: Final = _NoTransport()


class Connection:
    """A socket on `/chat`, from the answer to its CONNECT until it is gone.

    Frames leave in the order of `send`, also across an upgrade, which gives the connection another `link`.
    """

    __slots__ = (
        "_acks",
        "_awaiting_pong",
        "_next_ack",
        "_waiting",
        "asked",
        "confirmed",
        "delivered",
        "engine_sid",
        "handed",
        "identity",
        "in_work",
        "inbox",
        "opened_at",
        "room_for_more",
        "sid",
        "since",
        "transport",
    )

    def __init__(self, sid: str, engine_sid: str, transport: Transport, identity: Identity) -> None:
        self.sid = sid
        self.engine_sid = engine_sid
        self.transport = transport
        self.identity = identity
        self.opened_at = now()
        # Only while events are worked on: a connection that rests has none.
        self.inbox: deque[Any] | None = None
        self.in_work = 0
        # What was handed over of the offline queue: the place of each message in its room, and the name of its entry.
        self.handed: dict[tuple[str, int], bytes] = {}
        # Numbers of live deliveries: the last before this connection, the last that was sent on it, the last before the
        # ping that was sent last, and the last that it has confirmed.
        self.since = self.delivered = self.asked = self.confirmed = 0
        self.room_for_more: asyncio.Future[None] | None = None
        self._acks: dict[int, tuple[int, Acknowledge]] = {}
        self._next_ack = 0
        self._awaiting_pong: list[tuple[float, Acknowledge]] = []
        self._waiting: asyncio.Future[None] | None = None

    @property
    def user_id(self) -> str:
        return self.identity.user_id

    @property
    def is_open(self) -> bool:
        """False once it is gone, or cut off and about to go."""
        return self.transport.is_open

    def send(self, frame: Frame) -> None:
        """Send or queue one frame; never waits and never raises."""
        self.transport.send(frame)

    async def wait_sent(self) -> None:
        """Until what was sent has left, or the socket is gone. For one caller at a time."""
        transport: Transport | None = None
        while transport is not self.transport:
            # An upgrade takes what waits along to another link.
            transport = self.transport
            self._waiting = asyncio.ensure_future(transport.wait_sent())
            await asyncio.wait([self._waiting])
        self._waiting = None

    def request_ack(self, on_ack: Acknowledge) -> int:
        """A number for the event that is sent next; `on_ack` runs when the client acknowledges it."""
        self._next_ack += 1
        self._acks[self._next_ack] = self.delivered, on_ack
        return self._next_ack

    def acknowledge(self, ack_id: int) -> None:
        known = self._acks.pop(ack_id, None)
        if known is not None:
            # What was sent before that event has arrived before it.
            delivered, on_ack = known
            self.confirm(delivered)
            on_ack()

    def begin_deliveries(self, latest: int) -> None:
        """From the next delivery on, every one is sent on this connection."""
        self.since = self.delivered = self.asked = self.confirmed = latest

    def confirm(self, number: int) -> None:
        """The live deliveries up to this one have arrived."""
        self.confirmed = max(self.confirmed, number)

    @property
    def is_unconfirmed(self) -> bool:
        """Whether something was delivered on it that it has not confirmed."""
        return self.delivered > self.confirmed

    def note_ping(self) -> None:
        """A ping is sent now."""
        self.asked = self.delivered

    def when_confirmed(self, on_confirmed: Acknowledge) -> None:
        """Run `on_proof` once a ping that is sent after this call has been answered."""
        self._awaiting_pong.append((time.monotonic(), on_confirmed))

    def take_pong(self, sent_at: float) -> None:
        """The ping that was sent at that time of the monotonic clock, the last one, has been answered."""
        self.confirm(self.asked)
        confirmed = [callback for asked_at, callback in self._awaiting_pong if asked_at < sent_at]
        self._awaiting_pong = [waiting for waiting in self._awaiting_pong if waiting[0] >= sent_at]
        for callback in confirmed:
            callback()

    def close(self) -> None:
        """Forget what waits; called when the socket is gone."""
        self.transport = _GONE
        if self._waiting is not None:
            self._waiting.cancel()
        self._acks.clear()
        self._awaiting_pong.clear()
