"""Rules on what people heard: live on each socket, and completed by offline batches and `sync`."""

import itertools
from collections import defaultdict
from collections.abc import Iterator

from tests.torture.history import Record
from tests.torture.verdict import Log, Violation

LONGEST_LIST = 8


class WholeStreams:
    """`stream-complete`: what a person heard in any way, put together, is the room's history.
    `one-order`: a place in a room holds the same message for everybody."""

    def __init__(self) -> None:
        # They never `sync`, and have a rule of their own.
        self._listeners: set[str] = set()
        self._users: dict[int, str] = {}
        self._heard: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
        self._contradictions: list[Violation] = []

    def take(self, record: Record) -> None:
        kind = record["k"]
        if kind == "listener":
            self._listeners.add(record["u"])
        elif kind == "dial":
            self._users[record["s"]] = record["u"]
        elif kind == "new":
            self._hear(record["s"], record["r"], record["q"], record["m"])
        elif kind in ("queued", "synced"):
            for item in record["items"]:
                self._hear(record["s"], *item)

    def conclude(self, log: Log) -> Iterator[Violation]:
        yield from self._contradictions
        for room_id, members in log.members.items():
            history = {message["q"]: message["m"] for message in log.messages[room_id]}
            for user_id in members:
                heard = self._heard[user_id, room_id]
                if heard == history or user_id in self._listeners:
                    continue
                missing = sorted(history.keys() - heard.keys())
                strange = sorted(seq for seq, message_id in heard.items() if history.get(seq) != message_id)
                yield Violation(
                    "stream-complete",
                    f"room {room_id} user {user_id}: {len(missing)} never heard {missing[:LONGEST_LIST]}, "
                    f"{len(strange)} heard but not stored {strange[:LONGEST_LIST]}",
                )

    def _hear(self, socket: int, room_id: str, seq: int, message_id: str) -> None:
        known = self._heard[self._users[socket], room_id].setdefault(seq, message_id)
        if known != message_id:
            detail = f"room {room_id} seq {seq} was heard as {known} and as {message_id}"
            self._contradictions.append(Violation("one-order", detail))


class LiveStreams:
    """`stream-no-double`: no socket hears a message live twice. `stream-order`: a room's messages come in order.
    `stream-live`: none is left out between the first `sync` of a socket and its end; those that are connected when
    all is quiet have heard everything up to the last word."""

    def __init__(self) -> None:
        self._seqs: dict[tuple[int, str], list[int]] = defaultdict(list)
        self._bases: dict[int, dict[str, int]] = {}
        self._users: dict[int, str] = {}
        self._connected: set[int] = set()
        self._ends: dict[str, int] = defaultdict(int)
        self._sends: dict[int, str] = {}
        self._quiet: dict[tuple[int, str], int] = {}

    def take(self, record: Record) -> None:
        kind = record["k"]
        if kind == "new":
            self._seqs[record["s"], record["r"]].append(record["q"])
        elif kind == "base":
            self._bases.setdefault(record["s"], record["ends"])
        elif kind == "open":
            self._users[record["s"]] = record["u"]
            self._connected.add(record["s"])
        elif kind == "lost":
            self._connected.discard(record["s"])
        elif kind == "send":
            self._sends[record["n"]] = record["r"]
        elif kind == "ack":
            room_id = self._sends[record["n"]]
            self._ends[room_id] = max(self._ends[room_id], record["q"])
        elif kind == "quiet":
            for socket in self._connected:
                for room_id in self._bases.get(socket, {}):
                    self._quiet[socket, room_id] = self._ends[room_id]

    def conclude(self, _log: Log) -> Iterator[Violation]:
        for socket, ends in self._bases.items():
            for room_id, base in ends.items():
                yield from self._judge(socket, room_id, base)

    def _judge(self, socket: int, room_id: str, base: int) -> Iterator[Violation]:
        seqs = self._seqs.get((socket, room_id), [])
        name = f"room {room_id} user {self._users[socket]} socket {socket}"
        unique = set(seqs)
        if len(unique) < len(seqs):
            doubles = sorted({seq for seq in seqs if seqs.count(seq) > 1})[:LONGEST_LIST]
            yield Violation("stream-no-double", f"{name}: heard more than once: {doubles}")
        disorder = [after for before, after in itertools.pairwise(seqs) if after < before]
        if disorder:
            yield Violation("stream-order", f"{name}: {disorder[:LONGEST_LIST]} came too late")
        last = max([self._quiet.get((socket, room_id), 0), *unique])
        first = min([base + 1, *unique])
        missing = [seq for seq in range(first, last + 1) if seq not in unique]
        if missing:
            yield Violation("stream-live", f"{name}: {len(missing)} not heard live: {missing[:LONGEST_LIST]}")
