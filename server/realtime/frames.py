"""Socket.IO packets of the one namespace, encoded once and written to many, and the frames that carry and end them."""

from typing import Any, Final

import msgspec

from server.protocol import NAMESPACE

_EVENT: Final = f"2{NAMESPACE},".encode()
_ACK: Final = f"3{NAMESPACE},".encode()
# Where clients connect that name none; packets leave it out.
MAIN_NAMESPACE: Final = "/"
# Engine.IO packet type 4: message.
_MESSAGE: Final = b"4"
_TEXT_FRAME: Final = 0x81
_CLOSE_FRAME: Final = 0x88
_MAX_SHORT: Final = 126
_MAX_MEDIUM: Final = 1 << 16

# What a client is told when it is closed (RFC 6455, 7.4.1).
PROTOCOL_ERROR, NOT_ACCEPTED, BAD_TEXT, TOO_LARGE = 1002, 1003, 1007, 1009
# Codes that a client may give; those left out of the first row never travel.
_CODES: Final = frozenset((1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)))

_encoder: Final = msgspec.json.Encoder()


class Frame:
    """One packet to clients: as a WebSocket frame (RFC 6455, 5.2) in `wire`, as Engine.IO data in `packet`."""

    __slots__ = ("_packet", "wire")

    def __init__(self, packet: bytes) -> None:
        self.wire = text_frame(_MESSAGE + packet)
        self._packet = packet

    @property
    def packet(self) -> str:
        return self._packet.decode()


def text_frame(payload: bytes) -> bytes:
    """A server's WebSocket frame with a whole text in it."""
    size = len(payload)
    if size < _MAX_SHORT:
        return bytes((_TEXT_FRAME, size)) + payload
    if size < _MAX_MEDIUM:
        return bytes((_TEXT_FRAME, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_TEXT_FRAME, 127)) + size.to_bytes(8, "big") + payload


def close_frame(code: int | None) -> bytes:
    """A server's closing of a WebSocket."""
    data = b"" if code is None else code.to_bytes(2, "big")
    return bytes((_CLOSE_FRAME, len(data))) + data


def answer_to_close(payload: bytes) -> int | None:
    """What to answer to a client's closing: its own code, where it gave one that it may give."""
    if not payload:
        return None
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        return BAD_TEXT
    code = int.from_bytes(payload[:2], "big")
    return code if code in _CODES else PROTOCOL_ERROR


def event_frame(event: str, payload: Any, ack_id: int | None = None) -> Frame:
    """A server event; with `ack_id` the client is asked to acknowledge it under that number."""
    prefix = _EVENT if ack_id is None else _EVENT + str(ack_id).encode()
    return Frame(prefix + _encoder.encode((event, payload)))


def refusal_packet(namespace: str, message: str, data: Any) -> str:
    """The answer to a CONNECT to another namespace, as Engine.IO data: the client's `connect_error` with `data`."""
    named = "" if namespace == MAIN_NAMESPACE else f"{namespace},"
    return f"4{named}{_encoder.encode({'message': message, 'data': data}).decode()}"


def ack_frame(ack_id: int, payload: Any) -> Frame:
    """The answer to a client's event that carries the number `ack_id`."""
    return Frame(_ACK + str(ack_id).encode() + _encoder.encode((payload,)))
