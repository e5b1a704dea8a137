"""Offline queue entries: parsing, ordering, and grouping into events."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from server.storage.redis.offline_queues import Entry

# Clients refuse frames above a limit (python-socketio: 4 MiB), and would at every connect. Also bounds the memory that
# one connection takes on the server.
PART_BYTES: Final = 1024 * 1024
# Assumed of messages whose entry does not tell their size: 25 are read at once.
UNKNOWN_SIZE: Final = PART_BYTES // 25


class Queued(msgspec.Struct, rename="camel"):
    """Identity of the queued message. An entry without a message id is a reference to the log.

    `size` is about the bytes that the message takes to send.
    """

    room_id: str
    seq: int
    message_id: str = ""
    size: int = UNKNOWN_SIZE

    @property
    def place(self) -> tuple[str, int]:
        return self.room_id, self.seq


class WaitingEntry(NamedTuple):
    entry: Entry
    head: Queued

    @property
    def is_reference(self) -> bool:
        return not self.head.message_id

    @property
    def size(self) -> int:
        return self.head.size if self.is_reference else len(self.entry.payload)


def read_head(payload: bytes) -> Queued | None:
    """None if damaged. Payloads are sent unchanged, and clients disconnect on invalid UTF-8."""
    try:
        payload.decode()
        return msgspec.json.decode(payload, type=Queued)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def in_parts(waiting: Sequence[WaitingEntry]) -> Iterator[list[WaitingEntry]]:
    """Split into parts of at most `PART_BYTES`. A longer message is a part of its own."""
    part: list[WaitingEntry] = []
    size = 0
    for item in waiting:
        size += item.size
        if part and size > PART_BYTES:
            yield part
            part, size = [], item.size
        part.append(item)
    if part:
        yield part


def consecutive_runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    ascending = sorted(numbers)
    first = ascending[0]
    for number, after in itertools.pairwise([*ascending, ascending[-1] + 2]):
        if after != number + 1:
            yield first, number
            first = after


def in_room_order(waiting: Sequence[WaitingEntry]) -> list[WaitingEntry]:
    """Sort each room by sequence number, within the positions that the room has in the batch."""
    by_room: dict[str, list[WaitingEntry]] = {}
    for item in waiting:
        by_room.setdefault(item.head.room_id, []).append(item)
    ordered = {room_id: iter(sorted(items, key=lambda item: item.head.seq)) for room_id, items in by_room.items()}
    return [next(ordered[item.head.room_id]) for item in waiting]
