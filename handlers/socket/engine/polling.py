"""All changes to Engine.IO's own sessions: bounds, pings and confirmations of polling, and hooks for WebSockets.

They rely on internals of the library, which `tests/test_engine_internals.py` checks.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final, Protocol

from engineio.exceptions import SocketIsClosedError
from engineio.packet import MESSAGE, NOOP, PING, Packet

from server.realtime.frames import Frame
from server.realtime.send_buffer import SendBuffer
from server.realtime.unsent import Reader

# python-engineio's client disconnects if a payload has more packets than this.
PACKETS_PER_POLL: Final = 16
# A client sends everything it has in one body. Real events are 65 bytes and more, so that a body of
# `server.max_payload` (128 KiB) cannot hold more of them than this.
PACKETS_PER_BODY: Final = 2000

# A client polls again as soon as a poll has ended. If it aborts a poll and does not poll again in time, it is gone.
POLL_SECONDS: Final = 5.0

Environ = dict[str, Any]


class Client(Protocol):
    """The polling client, as `PolledSocket` sees it."""

    def note_ping(self) -> None:
        """A ping is sent now."""

    def take_pong(self, sent_at: float) -> None:
        """The ping sent at `sent_at` (monotonic clock) has been answered."""

    def note_unsent(self, reader: Reader, size: int) -> None:
        """`size` bytes are unsent now."""

    def delivered(self) -> int:
        """The number of the last live delivery that was sent."""

    def confirm(self, number: int) -> None:
        """The live deliveries up to this number have arrived."""


class PolledSocket:
    """The transport of a polling client: packets wait in the queue of its session for the next poll.

    It exists for each session from the beginning, so that packets of the library are bounded too and pings use the
    monotonic clock. A poll confirms the answer to the one before.
    """

    kind: ClassVar[str] = "polling"

    __slots__ = (
        "_aborted_poll",
        "_answered",
        "_buffer",
        "_client",
        "_ending",
        "_engine_socket",
        "_polls",
        "_sent",
        "_unpolled",
        "_unsent",
        "is_open",
    )

    def __init__(self, engine_socket: Any, max_unsent: int, client: Client) -> None:
        self.is_open = True
        self._engine_socket = engine_socket
        self._client = client
        # The number of polls, the last of them that the client aborted, and the last live delivery in their answers.
        self._polls = 0
        self._aborted_poll = 0
        self._answered = 0
        self._buffer = SendBuffer(max_unsent)
        # Packets that the library took from its queue and that are in no answer yet.
        self._unpolled: deque[Packet | None] = deque()
        # Bytes queued since the queue was last found empty.
        self._unsent = 0
        # Resolved when everything has been sent; None if nothing waits for that.
        self._sent: asyncio.Future[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def attach(self) -> None:
        """Replace the library's methods of this session."""
        engine_socket = self._engine_socket
        engine_socket.transport = self
        engine_socket.last_ping = time.monotonic()
        engine_socket.poll = self._poll
        engine_socket.send = self._send_packet
        engine_socket.schedule_ping = self._schedule_ping
        engine_socket.check_ping_timeout = self._check_ping_timeout
        engine_socket._send_ping = self._send_ping

    def send(self, frame: Frame) -> None:
        self._put(Packet(MESSAGE, frame.packet), len(frame.wire))

    async def wait_sent(self) -> None:
        """Wait until everything sent is in answers to polls, or no further poll will be answered."""
        if self._engine_socket.closing or self._is_empty():
            return
        if self._sent is None:
            self._sent = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._sent)

    def lose_poll(self) -> None:
        """Handle a pending poll that the client aborted: end the session unless it polls again soon."""
        # Packets sent from now on must wait for the next poll and not go into the lost answer.
        self._aborted_poll = self._polls
        answer_poll(self._engine_socket)
        asyncio.get_running_loop().call_later(POLL_SECONDS, self._end_unless_polled, self._polls)

    def detach(self) -> list[Packet | None]:
        """Detach from the session; returns the packets that are in no answer yet."""
        self.is_open = False
        for patched in ("transport", "poll", "send", "schedule_ping", "check_ping_timeout", "_send_ping"):
            # Breaks reference cycles.
            vars(self._engine_socket).pop(patched, None)
        rest, self._unpolled = self._unpolled, deque()
        self._client.note_unsent(self, 0)
        self._resolve_sent()
        return list(rest)

    def _is_empty(self) -> bool:
        return not self._unpolled and self._engine_socket.queue.empty()

    def _resolve_sent(self) -> None:
        if self._sent is not None:
            self._sent.set_result(None)
            self._sent = None

    def _put(self, packet: Packet, size: int) -> None:
        if not self.is_open:
            return
        queue = self._engine_socket.queue
        waiting = 0 if queue.empty() else self._unsent
        self._unsent = waiting + size
        queue.put_nowait(packet)
        if self._buffer.is_too_long_with(size, waiting):
            self.cut()
        else:
            self._client.note_unsent(self, self._unsent)

    def cut(self) -> None:
        """End the session at once and drop unsent packets."""
        self.is_open = False
        self._client.note_unsent(self, 0)
        self._engine_socket.queue.put_nowait(None)
        self._end()

    def _end(self, reason: str | None = None) -> None:
        ending = self._engine_socket.close(wait=False, abort=True, reason=reason)
        self._ending = asyncio.get_running_loop().create_task(ending)

    async def _poll(self) -> list[Packet | None]:
        """The packets for one answer, at most `PACKETS_PER_POLL`; the others wait for the next poll."""
        engine_socket = self._engine_socket
        self._polls += 1
        poll = self._polls
        self._client.confirm(self._answered)
        if not self._unpolled:
            self._unpolled.extend(await type(engine_socket).poll(engine_socket))
            if engine_socket.closing:
                # A second pending poll would fail in the end, and the library would then end the session, even if a
                # WebSocket has taken over.
                answer_poll(engine_socket)
        if poll == self._aborted_poll:
            # The client has aborted this poll: the answer is lost.
            return [Packet(NOOP)]
        answer = [self._unpolled.popleft() for _ in range(min(len(self._unpolled), PACKETS_PER_POLL))]
        # Reset first: the client is reading.
        self._client.note_unsent(self, 0)
        if self.is_open and not self._is_empty():
            self._client.note_unsent(self, self._unsent)
        if self._is_empty():
            if self.is_open:
                self._answered = self._client.delivered()
            self._resolve_sent()
        return answer

    def _end_unless_polled(self, polls: int) -> None:
        if self.is_open and polls == self._polls:
            self.is_open = False
            self._end(self._engine_socket.server.reason.TRANSPORT_CLOSE)

    async def _send_packet(self, packet: Packet) -> None:
        """Send a packet of the library."""
        if await self._check_ping_timeout():
            self._put(packet, len(packet.encode()))

    def _schedule_ping(self) -> None:
        # The library calls this on every PONG, while `last_ping` still has the time of the PING.
        sent_at = self._engine_socket.last_ping
        type(self._engine_socket).schedule_ping(self._engine_socket)
        if sent_at is not None:
            self._client.take_pong(sent_at)

    async def _send_ping(self) -> None:
        engine_socket = self._engine_socket
        await asyncio.sleep(engine_socket.server.ping_interval)
        if not engine_socket.closing and not engine_socket.closed:
            engine_socket.last_ping = time.monotonic()
            self._client.note_ping()
            await self._send_packet(Packet(PING))

    async def _check_ping_timeout(self) -> bool:
        engine_socket = self._engine_socket
        if engine_socket.closed:
            raise SocketIsClosedError
        asked_at = engine_socket.last_ping
        if asked_at is None or time.monotonic() - asked_at <= engine_socket.server.ping_timeout:
            return True
        await engine_socket.close(wait=False, reason=engine_socket.server.reason.PING_TIMEOUT)
        return False


def use_websockets(engine: Any, begin: Callable[[Any, Environ], Awaitable[None]]) -> None:
    """Call `begin(engine_socket, environ)` for each WebSocket instead of the library's reader and writer.

    It is called once the library has accepted the handshake or the upgrade request. `detach_session` then takes the
    session from the library.
    """

    def make_driver(library_handler: Any, _server: Any) -> Callable[[Environ], Awaitable[None]]:
        return lambda environ: begin(library_handler.__self__, environ)

    engine._async = {**engine._async, "websocket": make_driver}


def disable_pings(engine_socket: Any) -> None:
    """Keep the library from pinging this session: it needs a `last_ping` to start."""
    engine_socket.last_ping = None


def answer_poll(engine_socket: Any) -> None:
    """Answer a pending poll now."""
    engine_socket.queue.put_nowait(Packet(NOOP))


def detach_session(engine_socket: Any) -> list[Packet]:
    """Stop the library's work on a session without notifying anyone; returns its unsent packets."""
    engine_socket.upgraded, engine_socket.upgrading = True, False
    # Makes its pings, polls and `close` do nothing.
    engine_socket.closing = True
    transport: PolledSocket | None = getattr(engine_socket, "transport", None)
    waiting = [] if transport is None else transport.detach()
    while not engine_socket.queue.empty():
        waiting.append(engine_socket.queue.get_nowait())
    answer_poll(engine_socket)
    return [packet for packet in waiting if packet is not None and packet.packet_type != NOOP]
