"""WebSocket protocol (RFC 6455): frame header bits, opcodes, control frames and close codes.

Two parts live elsewhere, for speed: `WebSocket` parses frame headers inline, as a call for each frame costs 0.1 µs and
more, and `server/realtime/frames.py` encodes text frames, once for all receivers.
"""

from typing import Final

FIN: Final = 0x80
RESERVED: Final = 0x70
OPCODE: Final = 0x0F
MASKED: Final = 0x80
CONTROL: Final = 0x8
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
WHOLE_TEXT: Final = FIN | TEXT
MAX_CONTROL_SIZE: Final = 125

# Close codes for what clients do wrong (RFC 6455, 7.4.1).
PROTOCOL_ERROR, NOT_ACCEPTED, BAD_TEXT, TOO_LARGE = 1002, 1003, 1007, 1009
# Close codes that a client may send. 1004 to 1006 and 1015 must not appear in a frame.
_CLIENT_CODES: Final = frozenset((1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)))


def close_frame(code: int | None) -> bytes:
    """A server's close frame, without a body if `code` is None."""
    data = b"" if code is None else code.to_bytes(2, "big")
    return bytes((FIN | CLOSE, len(data))) + data


def pong_frame(payload: bytes) -> bytes:
    """A server's answer to a ping with this payload, of at most 125 bytes."""
    return bytes((FIN | PONG, len(payload))) + payload


def answer_to_close(payload: bytes) -> int | None:
    """The code to answer a client's close frame with: its own if valid, None if it sent none."""
    if not payload:
        return None
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        return BAD_TEXT
    code = int.from_bytes(payload[:2], "big")
    return code if code in _CLIENT_CODES else PROTOCOL_ERROR
