"""Rules on what is derived: marks and unread counts agree with the log, and the queues owe nobody anything."""

from collections import defaultdict
from collections.abc import Iterator

from tests.torture.history import Record
from tests.torture.verdict import Log, Violation


class MarksAgree:
    """`marks-kept`: no mark lies below what was acknowledged to a reader, nor above what they asked for or wrote.
    `unread-agrees`: the unread count is the number of messages of others after one's read mark, without notices.
    `last-message`: the room names the last message of its log."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, str], int] = defaultdict(int)
        self._marked: dict[tuple[str, str], int] = defaultdict(int)
        self._marks: list[Record] = []
        self._ends: list[Record] = []

    def take(self, record: Record) -> None:
        kind = record["k"]
        if kind in ("read", "marked"):
            marks = self._asked if kind == "read" else self._marked
            marks[record["u"], record["r"]] = max(marks[record["u"], record["r"]], record["q"])
        elif kind == "marks":
            self._marks.append(record)
        elif kind == "end":
            self._ends.append(record)

    def conclude(self, log: Log) -> Iterator[Violation]:
        for end in self._ends:
            messages = log.messages[end["r"]]
            last = (messages[-1]["q"], messages[-1]["m"]) if messages else (0, None)
            if (end["q"], end["m"]) != last:
                yield Violation("last-message", f"room {end['r']} says {end['q']} {end['m']}, its log {last}")
        own: dict[tuple[str, str], int] = {}
        for room_id, messages in log.messages.items():
            for message in messages:
                own[message["u"], room_id] = message["q"]
        for marks in self._marks:
            yield from self._judge(marks, log, own)

    def _judge(self, marks: Record, log: Log, own: dict[tuple[str, str], int]) -> Iterator[Violation]:
        user_id, room_id = marks["u"], marks["r"]
        place, name = (user_id, room_id), f"room {room_id} user {user_id}"
        highest = max(self._asked[place], own.get(place, 0))
        if not self._marked[place] <= marks["read"] <= highest:
            yield Violation("marks-kept", f"{name}: read {marks['read']}, not {self._marked[place]}..{highest}")
        if not marks["read"] <= marks["delivered"] <= len(log.messages[room_id]):
            yield Violation("marks-kept", f"{name}: delivered {marks['delivered']}, read {marks['read']}")
        after = log.messages[room_id][marks["read"] :]
        unread = sum(message["u"] != user_id and not message.get("notice") for message in after)
        if marks["unread"] != unread:
            yield Violation("unread-agrees", f"{name}: says {marks['unread']}, there are {unread}")


class QueueIsEmpty:
    """`queue-owes-nothing`: once everybody has been connected and acknowledged, no queue holds an entry."""

    def __init__(self) -> None:
        self._left: list[Record] = []

    def take(self, record: Record) -> None:
        if record["k"] == "left" and record["count"]:
            self._left.append(record)

    def conclude(self, _log: Log) -> Iterator[Violation]:
        for record in self._left:
            yield Violation("queue-owes-nothing", f"user {record['u']}: {record['count']} entries are left")
