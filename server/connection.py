"""One authenticated socket: its identity, what waits to be read from it and what waits to be sent to it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from engineio import packet as engine_packet

from server.engine_socket import unwatch_pongs, watch_pongs
from server.frames import Frame
from server.models import Identity

# Passes through Engine.IO's own queue once: when it comes out, everything queued before it has been written.
DIRECT_MARKER: Final = "madang:direct"
# One group commit can answer hundreds of long messages in one turn of the event loop, before anybody could read a
# byte. So a reader gets a moment for more than `max_unsent`, but not for this many times as much.
PATIENCE: Final = 1.0
MOST_AT_ONCE: Final = 16

Acknowledge = Callable[[], None]


class ByteStream(Protocol):
    """The TCP stream under a WebSocket."""

    def write(self, data: bytes) -> "asyncio.Future[None]": ...

    def close(self) -> None: ...


class Connection:
    """A socket on `/chat`, from the answer to its CONNECT until it is gone.

    Frames leave in the order of `send`. A WebSocket gets them written straight to its stream, gathered per turn of
    the event loop; long-polling, and a socket in the middle of an upgrade, goes through Engine.IO's queue.
    A reader that lets more than `max_unsent` bytes pile up for a moment is cut off; the largest write on its way does
    not count, because one batch of missed messages may be larger than that alone.
    """

    def __init__(
        self, sid: str, engine_sid: str, engine_socket: Any, identity: Identity, remote_ip: str, *, max_unsent: int
    ) -> None:
        self.sid = sid
        self.engine_sid = engine_sid
        self.identity = identity
        self.remote_ip = remote_ip
        self.is_open = True
        self.inbox: deque[Any] = deque()
        self.is_worked_on = False
        self.in_work = 0
        self.handed: set[str] = set()
        self.room_for_more: asyncio.Future[None] | None = None
        self.expiry: asyncio.TimerHandle | None = None
        self._engine_socket = engine_socket
        self._max_unsent = max_unsent
        self._loop = asyncio.get_running_loop()
        self._stream: ByteStream | None = None
        self._switching = False
        self._outbox: list[bytes] = []
        self._unsent = 0
        self._largest = 0
        self._behind_since: float | None = None
        self._cutting: asyncio.Task[None] | None = None
        self._acks: dict[int, Acknowledge] = {}
        self._next_ack = 0
        self._proofs: list[tuple[float, Acknowledge]] = []
        watch_pongs(engine_socket, self._take_pong)

    @property
    def user_id(self) -> str:
        return self.identity.user_id

    def send(self, frame: Frame) -> None:
        """Send or queue one frame; never waits and never raises."""
        if not self.is_open:
            return
        size = len(frame.wire)
        if self._stream is not None or self._switching:
            if not self._outbox:
                self._loop.call_soon(self.flush)
            self._outbox.append(frame.wire)
        else:
            self._send_through_engine(frame)
        self._unsent += size
        self._largest = max(self._largest, size)
        if self._unsent - self._largest > self._max_unsent:
            self._cut_if_slow()
        else:
            self._behind_since = None

    def send_together(self, frames: Sequence[Frame]) -> None:
        """Send frames that count as one: parts of something that is larger than a client takes in one piece."""
        size = sum(len(frame.wire) for frame in frames)
        for frame in frames:
            # Before each one, because Engine.IO's queue begins to count anew where it is empty.
            self._largest = max(self._largest, size)
            self.send(frame)

    def write_directly(self, stream: ByteStream) -> None:
        """From now on frames go straight to `stream`: all that went through Engine.IO's queue is written."""
        self._stream = stream
        self._unsent = sum(map(len, self._outbox))
        self.flush()

    def request_ack(self, on_ack: Acknowledge) -> int:
        """A number for an event of ours; `on_ack` runs when the client acknowledges it."""
        self._next_ack += 1
        self._acks[self._next_ack] = on_ack
        return self._next_ack

    def acknowledge(self, ack_id: int) -> None:
        on_ack = self._acks.pop(ack_id, None)
        if on_ack is not None:
            on_ack()

    def when_proven(self, on_proof: Acknowledge) -> None:
        """Run `on_proof` once a ping that is sent after this call has been answered."""
        self._proofs.append((time.time(), on_proof))

    def cut(self) -> None:
        """End it at once, without another byte: its reader is too slow, or gone."""
        self.is_open = False
        self._outbox.clear()
        if self._stream is not None:
            self._stream.close()
        else:
            self._engine_socket.queue.put_nowait(None)
            self._cutting = self._loop.create_task(self._engine_socket.close(wait=False, abort=True))

    def close(self) -> None:
        """Forget what waits; called when the socket is gone."""
        self.flush()
        self.is_open = False
        self._acks.clear()
        self._proofs.clear()
        unwatch_pongs(self._engine_socket)
        if self.expiry is not None:
            self.expiry.cancel()

    def _cut_if_slow(self) -> None:
        if self._behind_since is None:
            self._behind_since = time.monotonic()
        is_late = time.monotonic() - self._behind_since > PATIENCE
        if is_late or self._unsent - self._largest > MOST_AT_ONCE * self._max_unsent:
            self.cut()

    def _send_through_engine(self, frame: Frame) -> None:
        queue = self._engine_socket.queue
        if queue.empty():
            self._unsent = self._largest = 0
        queue.put_nowait(engine_packet.Packet(engine_packet.MESSAGE, frame.packet))
        if self._engine_socket.upgraded:
            self._switching = True
            queue.put_nowait(engine_packet.Packet(engine_packet.MESSAGE, DIRECT_MARKER))

    def flush(self) -> None:
        """Hand everything that waits to the stream now."""
        if self._stream is None or not self._outbox:
            return
        data = b"".join(self._outbox) if len(self._outbox) > 1 else self._outbox[0]
        self._outbox.clear()
        self._largest = max(self._largest, len(data))
        try:
            written = self._stream.write(data)
        except OSError:
            # The stream is closed; its close event ends this connection.
            return
        if written.done():
            self._written(len(data), written)
        else:
            written.add_done_callback(lambda future: self._written(len(data), future))

    def _written(self, size: int, written: "asyncio.Future[None]") -> None:
        self._unsent -= size
        if self._unsent - self._largest <= self._max_unsent:
            self._behind_since = None
        if self._unsent <= 0:
            self._largest = 0
        if not written.cancelled():
            written.exception()

    def _take_pong(self, sent_at: float) -> None:
        proven = [callback for asked_at, callback in self._proofs if asked_at < sent_at]
        self._proofs = [proof for proof in self._proofs if proof[0] >= sent_at]
        for callback in proven:
            callback()
