"""Parses the Socket.IO packets of connected clients (socket.io-protocol, revision 5)."""

import re
from typing import Any, Final, NamedTuple

import msgspec

from server.errors import ValidationFailed
from server.explain import JSON_ERRORS, explain_bad_json
from server.protocol import NAMESPACE
from server.realtime.frames import MAIN_NAMESPACE

# type, number of attachments and "-", namespace and ",", ack id
_HEAD: Final = re.compile(r"([2356])(?:[0-9]{1,10}-)?" + re.escape(NAMESPACE) + r",([0-9]{0,15})(?![0-9])")
_ARGUMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_NAME: Final = msgspec.json.Decoder(str)
# Exceptions of `EventPacket.read`.
UNREADABLE: Final = (IndexError, *JSON_ERRORS)
CONNECT: Final = "0"
EVENT: Final = "2"
ACK: Final = "3"


class EventPacket(NamedTuple):
    """An event with unparsed arguments."""

    ack_id: int | None
    arguments: str

    def read(self) -> tuple[str, msgspec.Raw]:
        """The event's name and first argument; others are ignored. Raises one of `UNREADABLE`."""
        arguments = _ARGUMENTS.decode(self.arguments)
        name = _NAME.decode(arguments[0])
        return name, arguments[1] if len(arguments) > 1 else msgspec.Raw(b"null")

    def explain(self) -> ValidationFailed:
        """The error that says why it cannot be read. Slower than `read`."""
        if self.arguments.strip() == "[]":
            return ValidationFailed.at("", "an event needs a name")
        return explain_bad_json(self.arguments, item=1)


class AckPacket(NamedTuple):
    """A client's ack of a server event."""

    ack_id: int


class BinaryPacket(NamedTuple):
    """An event with attachments, which is refused."""

    ack_id: int | None
    arguments: str

    def read_refusal(self) -> tuple[str, ValidationFailed]:
        """The event's name, and the error with the path of the first attachment."""
        try:
            name, payload = EventPacket(None, self.arguments).read()
            path = _find_attachment(msgspec.json.decode(payload), "")
        except UNREADABLE:
            name, path = "", None
        return name, ValidationFailed.at(path or "", "must not be binary")


def read_packet(data: str) -> EventPacket | AckPacket | BinaryPacket | None:
    """Parse a packet; None for anything else than a packet of this namespace, which is ignored."""
    head = _HEAD.match(data)
    if head is None:
        return None
    ack_id = int(head[2]) if head[2] else None
    if head[1] == EVENT:
        return EventPacket(ack_id, data[head.end() :])
    if head[1] == ACK:
        return AckPacket(ack_id) if ack_id is not None else None
    return BinaryPacket(ack_id, data[head.end() :])


def read_namespace(data: str) -> str:
    """The namespace of a CONNECT or DISCONNECT, without its query."""
    if data[1:2] != "/":
        return MAIN_NAMESPACE
    return data[1:].partition(",")[0].partition("?")[0]


def _find_attachment(value: Any, path: str) -> str | None:
    """The dotted path of the first attachment in a decoded payload."""
    if isinstance(value, list):
        inner = ((f"{path}[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, dict) and value.get("_placeholder") is True:
        return path
    elif isinstance(value, dict):
        inner = ((f"{path}.{key}" if path else key, item) for key, item in value.items())
    else:
        return None
    return next((found for at, item in inner if (found := _find_attachment(item, at)) is not None), None)
