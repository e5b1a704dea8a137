"""Rules on the log itself: what was acknowledged is there, once, as it was sent, without gaps, in order."""

from collections import defaultdict
from collections.abc import Iterator

from tests.torture.changed_state import MARK
from tests.torture.history import Record
from tests.torture.verdict import Log, Violation


def sent_body(stored: Record) -> str:
    """The body with which a message was sent, whatever edits have added."""
    return str(stored["b"]).split(MARK)[0] if stored.get("v") else str(stored["b"])


class AcknowledgedIsStored:
    """`stored-once`: every acknowledged message stands where the acknowledgement said, and nowhere else.
    `bytes-equal`: with the bytes, the sender and the client's id with which it was sent."""

    def __init__(self) -> None:
        self._sends: dict[int, Record] = {}
        self._acks: list[Record] = []

    def take(self, record: Record) -> None:
        if record["k"] == "send":
            self._sends[record["n"]] = record
        elif record["k"] == "ack":
            self._acks.append(record)

    def conclude(self, log: Log) -> Iterator[Violation]:
        for ack in self._acks:
            send = self._sends[ack["n"]]
            messages, place = log.messages[send["r"]], ack["q"]
            found = messages[place - 1] if 0 < place <= len(messages) else None
            name = f"room {send['r']} seq {place} id {ack['m']} intent {send['i']}"
            if found is None or found["m"] != ack["m"] or found["q"] != place:
                there = "nothing" if found is None else f"{found['m']} (seq {found['q']})"
                yield Violation("stored-once", f"{name} was acknowledged; there stands {there}")
            elif not found.get("gone") and (sent_body(found), found["u"], found["c"]) != (
                send["b"],
                send["u"],
                send["c"],
            ):
                yield Violation("bytes-equal", f"{name}: sent {send['b']!r}, stored {found['b']!r}")


class LogIsWhole:
    """`gap-free`: a room's numbers are 1 to N. `nothing-unsent`: everything stored was sent, by that person, to that
    room. `stored-once`: no intent stands twice, however often it was tried."""

    def __init__(self) -> None:
        self._intents: dict[tuple[str, str, str], Record] = {}

    def take(self, record: Record) -> None:
        if record["k"] == "send":
            self._intents.setdefault((record["r"], record["u"], record["b"]), record)

    def conclude(self, log: Log) -> Iterator[Violation]:
        for room_id, messages in log.messages.items():
            places: dict[int, int] = {}
            for place, message in enumerate(messages, 1):
                name = f"room {room_id} seq {message['q']} id {message['m']}"
                if message["q"] != place:
                    yield Violation("gap-free", f"{name} stands where {place} belongs")
                if message.get("gone") or message.get("notice"):
                    continue
                send = self._intents.get((room_id, message["u"], sent_body(message)))
                if send is None:
                    yield Violation("nothing-unsent", f"{name}: nobody sent {message['b']!r}")
                elif (first := places.setdefault(send["i"], message["q"])) != message["q"]:
                    yield Violation("stored-once", f"{name}: intent {send['i']} stands at {first} too")


class OneOrder:
    """`send-order`: what was acknowledged in a room before a message was first sent stands before that message,
    whoever sent either; and what one connection sent first and got acknowledged on it stands first."""

    def __init__(self) -> None:
        self._sends: dict[int, Record] = {}
        self._first: set[int] = set()
        self._tries: dict[int, int] = defaultdict(int)
        self._acked_end: dict[str, int] = defaultdict(int)
        self._floors: dict[int, int] = {}
        self._acks: dict[int, int] = {}

    def take(self, record: Record) -> None:
        if record["k"] == "send":
            self._sends[record["n"]] = record
            self._tries[record["i"]] += 1
            self._floors.setdefault(record["i"], self._acked_end[record["r"]])
        elif record["k"] == "ack":
            self._acks[record["n"]] = record["q"]
            room_id = self._sends[record["n"]]["r"]
            self._acked_end[room_id] = max(self._acked_end[room_id], record["q"])

    def conclude(self, log: Log) -> Iterator[Violation]:
        last: dict[tuple[int, str], tuple[int, int]] = {}
        for number, send in self._sends.items():
            seq = self._acks.get(number)
            if seq is None:
                continue
            name = f"room {send['r']} seq {seq} intent {send['i']}"
            if seq <= self._floors[send["i"]]:
                yield Violation("send-order", f"{name} was sent after {self._floors[send['i']]} was acknowledged")
            if send["s"] is None or self._tries[send["i"]] > 1:
                continue
            before, intent = last.get((send["s"], send["r"]), (0, 0))
            if seq <= before:
                yield Violation("send-order", f"{name} was sent after intent {intent}, which stands at {before}")
            last[send["s"], send["r"]] = seq, send["i"]
