"""Socket.IO packets of `/chat`, each encoded once, together with the WebSocket text frame that carries it."""

from typing import Any, Final

import msgspec

from server.protocol import NAMESPACE

_EVENT: Final = f"2{NAMESPACE},".encode()
_ACK: Final = f"3{NAMESPACE},".encode()
# The default namespace; packets leave its name out.
MAIN_NAMESPACE: Final = "/"
# Engine.IO packet type 4: message.
_MESSAGE: Final = b"4"
_TEXT_FRAME: Final = 0x81
_MAX_SHORT: Final = 126
_MAX_MEDIUM: Final = 1 << 16

_encoder: Final = msgspec.json.Encoder()


class Frame:
    """One packet to clients: `wire` is its WebSocket frame (RFC 6455, 5.2), `packet` its Engine.IO data."""

    __slots__ = ("_packet", "wire")

    def __init__(self, packet: bytes) -> None:
        self.wire = text_frame(_MESSAGE + packet)
        self._packet = packet

    @property
    def packet(self) -> str:
        return self._packet.decode()


def text_frame(payload: bytes) -> bytes:
    """A server's WebSocket frame that holds a whole text message."""
    size = len(payload)
    if size < _MAX_SHORT:
        return bytes((_TEXT_FRAME, size)) + payload
    if size < _MAX_MEDIUM:
        return bytes((_TEXT_FRAME, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_TEXT_FRAME, 127)) + size.to_bytes(8, "big") + payload


def event_frame(event: str, payload: Any, ack_id: int | None = None) -> Frame:
    """A server event. With `ack_id` it asks the client for an ack under that number."""
    prefix = _EVENT if ack_id is None else _EVENT + str(ack_id).encode()
    return Frame(prefix + _encoder.encode((event, payload)))


def refusal_packet(namespace: str, message: str, data: Any) -> str:
    """The refusal of a CONNECT to another namespace, as Engine.IO data: a `connect_error` with `data`."""
    named = "" if namespace == MAIN_NAMESPACE else f"{namespace},"
    return f"4{named}{_encoder.encode({'message': message, 'data': data}).decode()}"


def ack_frame(ack_id: int, payload: Any) -> Frame:
    """The ack of a client's event with the number `ack_id`."""
    return Frame(_ACK + str(ack_id).encode() + _encoder.encode((payload,)))
