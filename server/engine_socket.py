"""Where Madang reaches into an Engine.IO session of its library, in one place that a test watches over."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from engineio.packet import MESSAGE, NOOP, Packet

from server.backlog import Backlog
from server.frames import Frame

# python-engineio's client refuses a payload of more packets than this, and drops its connection with it.
PACKETS_PER_POLL: Final = 16
# The other way, one body holds all that a client has to say. Real events are 65 bytes and more, so that a body of
# `server.max_payload` (128 KiB) cannot hold more of them; the empty packets that could be more are nobody's.
PACKETS_PER_BODY: Final = 2000

Environ = dict[str, Any]


class PolledSocket:
    """The way to a client that polls: what is sent waits in its session's queue for the next poll."""

    __slots__ = ("_backlog", "_cutting", "_engine_socket", "_unsent", "is_open")

    def __init__(self, engine_socket: Any, *, max_unsent: int) -> None:
        self.is_open = True
        self._engine_socket = engine_socket
        self._backlog = Backlog(max_unsent)
        # Since the queue was last found empty.
        self._unsent = 0
        self._cutting: asyncio.Task[None] | None = None

    def send(self, frame: Frame) -> None:
        self.send_together((frame,))

    def send_together(self, frames: Sequence[Frame]) -> None:
        if not self.is_open:
            return
        queue, size = self._engine_socket.queue, sum(len(frame.wire) for frame in frames)
        waiting = 0 if queue.empty() else self._unsent
        self._unsent = waiting + size
        for frame in frames:
            queue.put_nowait(Packet(MESSAGE, frame.packet))
        if self._backlog.is_too_long_with(size, waiting):
            self._cut()

    async def wait_sent(self) -> None:
        """There is nothing to wait for: a session that has ended answers no further poll."""

    def _cut(self) -> None:
        self.is_open = False
        self._engine_socket.queue.put_nowait(None)
        ending = self._engine_socket.close(wait=False, abort=True)
        self._cutting = asyncio.get_running_loop().create_task(ending)


def use_websockets(engine: Any, begin: Callable[[Any, Environ], Awaitable[None]]) -> None:
    """Have `begin(engine_socket, environ)` called for each WebSocket, instead of the library's reader and writer.

    It is called once the handshake, or the request to upgrade, has been found good. The session is not the library's
    any more from `take_queue` on.
    """

    def make_driver(library_handler: Any, _server: Any) -> Callable[[Environ], Awaitable[None]]:
        return lambda environ: begin(library_handler.__self__, environ)

    engine._async = {**engine._async, "websocket": make_driver}


def let_rest(engine_socket: Any) -> None:
    """Keep the library from pinging this session: it begins to only where a time of asking is there."""
    engine_socket.last_ping = None


def watch_pongs(engine_socket: Any, on_pong: Callable[[float], None]) -> None:
    """Call `on_pong` at every PONG with the time at which its PING was sent."""
    # The library calls this on every PONG, with the time of the PING still in `last_ping`.
    schedule_ping = type(engine_socket).schedule_ping

    def schedule_and_tell() -> None:
        sent_at = engine_socket.last_ping
        schedule_ping(engine_socket)
        if sent_at is not None:
            on_pong(sent_at)

    engine_socket.schedule_ping = schedule_and_tell


def bound_polls(engine_socket: Any) -> None:
    """Answer each poll with few enough packets for every client; the rest waits for the next poll."""
    poll = engine_socket.poll
    rest: deque[Any] = deque()
    engine_socket.rest = rest

    async def poll_some() -> list[Any]:
        if not rest:
            rest.extend(await poll())
            if engine_socket.closing:
                # One that waits beside this one would fail in the end, and the library ends the session of whoever
                # fails: also when a WebSocket has taken over.
                answer_poll(engine_socket)
        return [rest.popleft() for _ in range(min(len(rest), PACKETS_PER_POLL))]

    engine_socket.poll = poll_some


def answer_poll(engine_socket: Any) -> None:
    """Let a poll that waits be answered now."""
    engine_socket.queue.put_nowait(Packet(NOOP))


def take_queue(engine_socket: Any) -> list[Packet]:
    """End the library's own work on a session without a word to anybody; returns what it had yet to send."""
    engine_socket.upgraded, engine_socket.upgrading = True, False
    # Its pings, its polls and its `close` do nothing any more.
    engine_socket.closing = True
    waiting = vars(engine_socket).pop("rest", deque())
    while not engine_socket.queue.empty():
        waiting.append(engine_socket.queue.get_nowait())
    answer_poll(engine_socket)
    # They refer to the session, which refers to them.
    for patched in ("poll", "schedule_ping"):
        vars(engine_socket).pop(patched, None)
    return [packet for packet in waiting if packet is not None and packet.packet_type != NOOP]
