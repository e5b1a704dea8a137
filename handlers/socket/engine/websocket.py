"""Server side of a WebSocket (RFC 6455) on an asyncio transport, after the handshake."""

import asyncio
from typing import ClassVar, Final, Protocol, cast

from tornado.util import _websocket_mask as unmask

from handlers.socket.engine.websocket_protocol import (
    BAD_TEXT,
    BINARY,
    CLOSE,
    CONTINUATION,
    CONTROL,
    FIN,
    MASKED,
    MAX_CONTROL_SIZE,
    OPCODE,
    PING,
    PONG,
    PROTOCOL_ERROR,
    RESERVED,
    TEXT,
    TOO_LARGE,
    WHOLE_TEXT,
    answer_to_close,
    close_frame,
    pong_frame,
)
from server.realtime.frames import Frame, text_frame
from server.realtime.send_buffer import SendBuffer

# A client gets this long to read what was sent and to answer a close frame.
CLOSE_SECONDS: Final = 5.0
# Read at once; then other connections are served first, even if one client has sent thousands of small frames.
FRAMES_PER_TURN: Final = 200
# A client with more unsent bytes gets no pongs.
MAX_UNSENT_FOR_PONG: Final = 64 * 1024


class Slot(Protocol):
    """The slot of a connection in the connection limits."""

    def release(self) -> None: ...


class Listener(Protocol):
    """Receives the events of a WebSocket. No method may raise."""

    def take_text(self, text: str) -> "asyncio.Future[None] | None":
        """Handle a text message. Reading pauses until the returned future, if any, resolves; it must not fail."""

    def too_large(self) -> None:
        """A message is too large; the connection is about to be closed."""

    def note_unsent(self, size: int) -> None:
        """`size` bytes are unsent now. May cut this connection."""

    def lost(self) -> None:
        """The connection is closed."""


class WebSocket(asyncio.Protocol):
    """Needs a `listener` before it is connected.

    The listener gets text messages in order and can pause reading. Binary messages are dropped. The connection ends if
    the client violates the protocol, sends a message of more than `max_size` bytes, or leaves more than `max_unsent`
    bytes unread for longer than the grace of `SendBuffer`.
    """

    kind: ClassVar[str] = "websocket"

    __slots__ = (
        "_buffer",
        "_closing",
        "_is_paused",
        "_loop",
        "_max_size",
        "_max_unsent",
        "_outbox",
        "_parts",
        "_sent",
        "_transport",
        "_unread",
        "is_open",
        "listener",
        "slot",
    )
    listener: Listener

    def __init__(self, *, max_size: int, max_unsent: int) -> None:
        # Whether frames may still arrive.
        self.is_open = False
        # Released when the connection is lost.
        self.slot: Slot | None = None
        self._max_size = max_size
        self._max_unsent = max_unsent
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        # Frames sent in this turn of the event loop; they are written together.
        self._outbox: list[bytes] | None = None
        self._buffer: SendBuffer | None = None
        self._unread = b""
        # A fragmented message: its opcode and its payload so far.
        self._parts: tuple[int, bytearray] | None = None
        self._is_paused = False
        self._closing: asyncio.TimerHandle | None = None
        # Resolved when everything has been written; None if nothing waits for that.
        self._sent: asyncio.Future[None] | None = None

    def send(self, frame: Frame) -> None:
        self._write(frame.wire)

    def send_text(self, text: str) -> None:
        self._write(text_frame(text.encode()))

    def close(self, code: int | None = None) -> None:
        """Send a close frame after all sent frames and wait up to `CLOSE_SECONDS` for the answer, without blocking."""
        if self._transport is None or self._closing is not None:
            return
        self._write(close_frame(code))
        self._flush()
        self.is_open = False
        self._closing = self._loop.call_later(CLOSE_SECONDS, self._transport.abort)

    async def wait_sent(self) -> None:
        """Wait until the kernel has everything that was sent, or the connection is lost."""
        if self._transport is None or (self._outbox is None and not self._transport.get_write_buffer_size()):
            return
        if self._sent is None:
            self._sent = self._loop.create_future()
        await asyncio.shield(self._sent)

    def check_unsent(self) -> None:
        """Cut the connection if the client reads too slowly. Call it periodically: nothing may be sent meanwhile."""
        if self._buffer is None or self._transport is None:
            return
        waiting = self._transport.get_write_buffer_size()
        if self._buffer.is_too_long_with(0, waiting):
            self.cut()
        else:
            self.listener.note_unsent(waiting)

    def cut(self) -> None:
        """End the connection at once and drop unsent data."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def fail(self, code: int) -> None:
        """Close with an error code and stop reading."""
        self.close(code)
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # `_flush` has already joined the frames: the transport need not collect them again.
        self._transport.set_write_buffer_limits(high=0)
        self.is_open = True

    def resume_writing(self) -> None:
        """Everything has been written."""
        if self._buffer is not None:
            self._buffer = None
            self.listener.note_unsent(0)
        if self._sent is not None:
            self._sent.set_result(None)
            self._sent = None

    def eof_received(self) -> None:
        """Close, as no more data will come; a client that does not read is aborted after `CLOSE_SECONDS`."""
        self.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_open = False
        self._transport, self._outbox, self._unread, self._parts = None, None, b"", None
        if self._closing is not None:
            self._closing.cancel()
        self.resume_writing()
        if self.slot is not None:
            self.slot.release()
        self.listener.lost()

    def data_received(self, data: bytes) -> None:
        # A frame larger than `max_size` is refused by its header, so this stays small.
        self._unread = self._unread + data if self._unread else data
        if not self._is_paused:
            self._read()

    def _write(self, data: bytes) -> None:
        if self._outbox is not None:
            self._outbox.append(data)
        elif self.is_open:
            self._outbox = [data]
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._outbox is None or self._transport is None:
            return
        data = b"".join(self._outbox) if len(self._outbox) > 1 else self._outbox[0]
        self._outbox = None
        waiting = self._transport.get_write_buffer_size()
        self._transport.write(data)
        left = self._transport.get_write_buffer_size()
        if not waiting:
            self._buffer = None
        if not left:
            self.resume_writing()
            return
        if self._buffer is None:
            self._buffer = SendBuffer(self._max_unsent, largest=waiting)
        if self._buffer.is_too_long_with(len(data), waiting):
            self.cut()
            return
        if waiting:
            # Noted before the growth, so that progress of the client is seen.
            self.listener.note_unsent(waiting)
        self.listener.note_unsent(left)

    def _read(self) -> None:
        """Handle all complete frames that have arrived, until the listener pauses."""
        data, position, count = self._unread, 0, 0
        end = len(data)
        while end - position >= 2:
            first, second = data[position], data[position + 1]
            size, start = second & 0x7F, position + 2
            if (
                first & RESERVED
                or not second & MASKED
                or (first & CONTROL and (size > MAX_CONTROL_SIZE or first < FIN))
            ):
                self.fail(PROTOCOL_ERROR)
                return
            if size == 126:
                size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
            elif size == 127:
                size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
            if start <= end and size > self._max_size:
                self._refuse_size()
                return
            stop = start + 4 + size
            if stop > end:
                break
            payload = unmask(data[start : start + 4], data[start + 4 : stop])
            position = stop
            count += 1
            more = self._take(first, payload)
            if self._transport is None or self._transport.is_closing():
                return
            if more is None and count == FRAMES_PER_TURN and position < end:
                more = self._loop.create_future()
                self._loop.call_soon(more.set_result, None)
            if more is not None:
                self._is_paused = True
                self._transport.pause_reading()
                more.add_done_callback(self._resume)
                break
        self._unread = data[position:] if position else data

    def _resume(self, _more: "asyncio.Future[None]") -> None:
        self._is_paused = False
        if self._transport is None or self._transport.is_closing():
            return
        self._read()
        if not self._is_paused:
            self._transport.resume_reading()

    def _take(self, first: int, payload: bytes) -> "asyncio.Future[None] | None":
        if first == WHOLE_TEXT and self._parts is None:
            return self._take_text(payload)
        opcode, is_last = first & OPCODE, first & FIN
        if opcode >= CLOSE:
            self._take_control(opcode, payload)
        elif (opcode == CONTINUATION) is (self._parts is None) or opcode > BINARY:
            self.fail(PROTOCOL_ERROR)
        else:
            opcode, parts = self._parts or (opcode, bytearray())
            parts += payload
            self._parts = None if is_last else (opcode, parts)
            if len(parts) > self._max_size:
                self._refuse_size()
            elif is_last and opcode == TEXT:
                return self._take_text(bytes(parts))
        return None

    def _refuse_size(self) -> None:
        self.listener.too_large()
        self.fail(TOO_LARGE)

    def _take_text(self, payload: bytes) -> "asyncio.Future[None] | None":
        if self._closing is not None:
            # Messages after our close frame are dropped.
            return None
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            self.fail(BAD_TEXT)
            return None
        return self.listener.take_text(text)

    def _take_control(self, opcode: int, payload: bytes) -> None:
        if self._transport is None:
            return
        if opcode == PING and self._transport.get_write_buffer_size() <= MAX_UNSENT_FOR_PONG:
            self._write(pong_frame(payload))
        elif opcode == CLOSE:
            self.close(answer_to_close(payload))
            self._transport.close()
        elif opcode > PONG:
            self.fail(PROTOCOL_ERROR)
