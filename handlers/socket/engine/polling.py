"""All that is changed inside Engine.IO's own sessions, in one place that a test watches over."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from engineio.exceptions import SocketIsClosedError
from engineio.packet import MESSAGE, NOOP, PING, Packet

from server.realtime.frames import Frame
from server.realtime.send_buffer import SendBuffer
from server.realtime.unsent import Reader

# python-engineio's client refuses a payload of more packets than this, and drops its connection with it.
PACKETS_PER_POLL: Final = 16
# The other way, one body holds all that a client has to say. Real events are 65 bytes and more, so that a body of
# `server.max_payload` (128 KiB) cannot hold more of them; the empty packets that could be more are nobody's.
PACKETS_PER_BODY: Final = 2000

# A client polls again as soon as a poll has ended. One that ended a poll itself, and does not, is gone.
POLL_SECONDS: Final = 5.0

Environ = dict[str, Any]


class Client(Protocol):
    """The one who polls: which live delivery it was sent last, and what it confirms."""

    def note_ping(self) -> None:
        """It is sent a ping now."""

    def take_pong(self, sent_at: float) -> None:
        """It has answered the ping that was sent at that time of the monotonic clock."""

    def note_unsent(self, reader: Reader, size: int) -> None:
        """So many bytes wait for it now."""

    def delivered(self) -> int: ...

    def confirm(self, number: int) -> None: ...


class PolledSocket:
    """The way to a client that polls: what is sent waits in its session's queue for the next poll.

    One for each session, from its beginning: what the library sends by itself is bounded with the rest, and its pings
    go by the monotonic clock. A poll confirms what the one before it was answered with.
    """

    __slots__ = (
        "_answered",
        "_buffer",
        "_client",
        "_cutting",
        "_engine_socket",
        "_lost",
        "_polls",
        "_rest",
        "_sent",
        "_unsent",
        "is_open",
    )

    def __init__(self, engine_socket: Any, max_unsent: int, client: Client) -> None:
        self.is_open = True
        self._engine_socket = engine_socket
        self._client = client
        # How many polls there were, which of them the client ended last, and the last live delivery that all of them
        # were answered with.
        self._polls = 0
        self._lost = 0
        self._answered = 0
        self._buffer = SendBuffer(max_unsent)
        # What the library has taken from its queue and no poll was answered with yet.
        self._rest: deque[Packet | None] = deque()
        # Since the queue was last found empty.
        self._unsent = 0
        # Somebody waits until everything has left.
        self._sent: asyncio.Future[None] | None = None
        self._cutting: asyncio.Task[None] | None = None

    def attach(self) -> None:
        """Take the place of what the library does for this session by itself."""
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
        """Until polls were answered with all that was sent, or no further one will be answered."""
        if self._engine_socket.closing or self._is_empty():
            return
        if self._sent is None:
            self._sent = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._sent)

    def lose_poll(self) -> None:
        """The client has ended a poll that waited: unless it polls again soon, it is gone."""
        # What comes now must wait for that, and not go out as the answer to this one.
        self._lost = self._polls
        answer_poll(self._engine_socket)
        asyncio.get_running_loop().call_later(POLL_SECONDS, self._end_unless_polled, self._polls)

    def detach(self) -> list[Packet | None]:
        """Let go of the session; returns what of its queue no poll was answered with."""
        self.is_open = False
        for patched in ("transport", "poll", "send", "schedule_ping", "check_ping_timeout", "_send_ping"):
            # They refer to the session, which refers to them.
            vars(self._engine_socket).pop(patched, None)
        rest, self._rest = self._rest, deque()
        self._client.note_unsent(self, 0)
        self._tell_sent()
        return list(rest)

    def _is_empty(self) -> bool:
        return not self._rest and self._engine_socket.queue.empty()

    def _tell_sent(self) -> None:
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
        """End the session at once; what waits is dropped."""
        self.is_open = False
        self._client.note_unsent(self, 0)
        self._engine_socket.queue.put_nowait(None)
        self._end()

    def _end(self, reason: str | None = None) -> None:
        ending = self._engine_socket.close(wait=False, abort=True, reason=reason)
        self._cutting = asyncio.get_running_loop().create_task(ending)

    async def _poll(self) -> list[Packet | None]:
        """Few enough packets for every client; the rest waits for the next poll."""
        engine_socket = self._engine_socket
        self._polls += 1
        poll = self._polls
        self._client.confirm(self._answered)
        if not self._rest:
            self._rest.extend(await type(engine_socket).poll(engine_socket))
            if engine_socket.closing:
                # One that waits beside this one would fail in the end, and the library ends the session of whoever
                # fails: also when a WebSocket has taken over.
                answer_poll(engine_socket)
        if poll == self._lost:
            # Nobody reads this answer.
            return [Packet(NOOP)]
        answer = [self._rest.popleft() for _ in range(min(len(self._rest), PACKETS_PER_POLL))]
        # It reads.
        self._client.note_unsent(self, 0)
        if self.is_open and not self._is_empty():
            self._client.note_unsent(self, self._unsent)
        if self._is_empty():
            if self.is_open:
                self._answered = self._client.delivered()
            self._tell_sent()
        return answer

    def _end_unless_polled(self, polls: int) -> None:
        if self.is_open and polls == self._polls:
            self.is_open = False
            self._end(self._engine_socket.server.reason.TRANSPORT_CLOSE)

    async def _send_packet(self, packet: Packet) -> None:
        """The library's own sending."""
        if await self._check_ping_timeout():
            self._put(packet, len(packet.encode()))

    def _schedule_ping(self) -> None:
        # The library calls this on every PONG, with the time of the PING still in `last_ping`.
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
    """Have `begin(engine_socket, environ)` called for each WebSocket, instead of the library's reader and writer.

    It is called once the handshake, or the request to upgrade, has been found good. The session is not the library's
    any more from `take_queue` on.
    """

    def make_driver(library_handler: Any, _server: Any) -> Callable[[Environ], Awaitable[None]]:
        return lambda environ: begin(library_handler.__self__, environ)

    engine._async = {**engine._async, "websocket": make_driver}


def disable_pings(engine_socket: Any) -> None:
    """Keep the library from pinging this session: it begins to only where a time of asking is there."""
    engine_socket.last_ping = None


def answer_poll(engine_socket: Any) -> None:
    """Let a poll that waits be answered now."""
    engine_socket.queue.put_nowait(Packet(NOOP))


def detach_session(engine_socket: Any) -> list[Packet]:
    """End the library's own work on a session without a word to anybody; returns what it had yet to send."""
    engine_socket.upgraded, engine_socket.upgrading = True, False
    # Its pings, its polls and its `close` do nothing any more.
    engine_socket.closing = True
    transport: PolledSocket | None = getattr(engine_socket, "transport", None)
    waiting = [] if transport is None else transport.detach()
    while not engine_socket.queue.empty():
        waiting.append(engine_socket.queue.get_nowait())
    answer_poll(engine_socket)
    return [packet for packet in waiting if packet is not None and packet.packet_type != NOOP]
