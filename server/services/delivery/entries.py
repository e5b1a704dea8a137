"""Entries of an offline queue: what they hold, and how they are ordered and grouped into events."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from server.storage.redis.offline_queues import Entry

# Clients refuse frames above a size of their own (python-socketio's 4 MiB) and would do so at every connect anew. It is
# also what one connection can make the server hold for it.
PART_BYTES: Final = 1024 * 1024


class Queued(msgspec.Struct, rename="camel"):
    """The part of an entry that says which message it is. One without an id only refers to the log."""

    room_id: str
    seq: int
    message_id: str = ""

    @property
    def place(self) -> tuple[str, int]:
        return self.room_id, self.seq


class WaitingEntry(NamedTuple):
    entry: Entry
    head: Queued

    @property
    def is_reference(self) -> bool:
        return not self.head.message_id


def read_head(payload: bytes) -> Queued | None:
    """None where it is damaged: clients get a payload as it is, and break off at text that is no UTF-8."""
    try:
        payload.decode()
        return msgspec.json.decode(payload, type=Queued)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def in_parts(waiting: Sequence[WaitingEntry]) -> Iterator[list[WaitingEntry]]:
    """Each takes `PART_BYTES` at most, or is one message."""
    part: list[WaitingEntry] = []
    size = 0
    for item in waiting:
        size += len(item.entry.payload)
        if part and size > PART_BYTES:
            yield part
            part, size = [], len(item.entry.payload)
        part.append(item)
    if part:
        yield part


def consecutive_runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each row of numbers without a gap."""
    ascending = sorted(numbers)
    first = ascending[0]
    for number, after in itertools.pairwise([*ascending, ascending[-1] + 2]):
        if after != number + 1:
            yield first, number
            first = after


def in_room_order(waiting: Sequence[WaitingEntry]) -> list[WaitingEntry]:
    """Keep the places that each room has in the batch, and fill them in the room's order."""
    by_room: dict[str, list[WaitingEntry]] = {}
    for item in waiting:
        by_room.setdefault(item.head.room_id, []).append(item)
    ordered = {room_id: iter(sorted(items, key=lambda item: item.head.seq)) for room_id, items in by_room.items()}
    return [next(ordered[item.head.room_id]) for item in waiting]
