"""Rules on what is answered about many rooms at once: `sync` and the list of chats name the true ends of the logs."""

from collections import defaultdict
from collections.abc import Iterator

from tests.torture.history import Record
from tests.torture.verdict import Log, Violation


class SyncIsCurrent:
    """`sync-current`: no answer of `sync` names an end of a room below what had been acknowledged when it was asked."""

    def __init__(self) -> None:
        self._rooms: dict[int, str] = {}
        self._acked: dict[str, int] = defaultdict(int)
        self._floors: dict[int, dict[str, int]] = {}
        self._violations: list[Violation] = []

    def take(self, record: Record) -> None:
        kind = record["k"]
        if kind == "send":
            self._rooms[record["n"]] = record["r"]
        elif kind == "ack":
            room_id = self._rooms[record["n"]]
            self._acked[room_id] = max(self._acked[room_id], record["q"])
        elif kind == "ask":
            self._floors[record["s"]] = {room_id: self._acked[room_id] for room_id in record["rooms"]}
        elif kind == "base":
            for room_id, floor in self._floors.pop(record["s"], {}).items():
                end = record["ends"].get(room_id)
                if end is None or end < floor:
                    detail = f"room {room_id} socket {record['s']}: sync said {end}, {floor} had been acknowledged"
                    self._violations.append(Violation("sync-current", detail))

    def conclude(self, _log: Log) -> Iterator[Violation]:
        yield from self._violations


class ListsAgree:
    """`lists-agree`: when all is quiet, everybody's `sync {}` and list of chats name the last message of each log."""

    def __init__(self) -> None:
        self._sends: dict[int, Record] = {}
        self._last: dict[str, tuple[int, str]] = defaultdict(lambda: (0, ""))
        self._violations: list[Violation] = []

    def take(self, record: Record) -> None:
        kind = record["k"]
        if kind == "send":
            self._sends[record["n"]] = record
        elif kind == "ack":
            send = self._sends[record["n"]]
            self._last[send["r"]] = max(self._last[send["r"]], (record["q"], send["b"]))
        elif kind == "listed":
            for room_id in record["rooms"]:
                end, body = self._last[room_id]
                synced, listed = record["ends"].get(room_id), record["last"].get(room_id)
                if (synced, listed) != (end, body):
                    detail = f"room {room_id} user {record['u']}: sync {synced}, list {listed!r}; log {end} {body!r}"
                    self._violations.append(Violation("lists-agree", detail))

    def conclude(self, _log: Log) -> Iterator[Violation]:
        yield from self._violations
