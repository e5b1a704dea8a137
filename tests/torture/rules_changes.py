"""Rules on changes: what was acknowledged stays, numbers are given once, and everybody ends with the same state."""

from collections import defaultdict
from collections.abc import Iterator

from tests.torture.history import Record
from tests.torture.verdict import Log, Violation

# A change by its place: room and number.
Place = tuple[str, int]


class ChangesAreStored:
    """`change-stored`: a message stands as its last acknowledged change left it, or as a later one did.
    `rev-unique`: a number of a room is of one message, in one state, after one other number."""

    def __init__(self) -> None:
        self._acks: list[Record] = []
        self._told: dict[Place, tuple[int, str, int]] = {}
        self._twice: list[str] = []

    def take(self, record: Record) -> None:
        if record["k"] == "change-ack" and record["v"]:
            self._acks.append(record)
        elif record["k"] == "changed":
            told = record["q"], record["d"], record["p"]
            known = self._told.setdefault((record["r"], record["v"]), told)
            if known != told or record["p"] >= record["v"]:
                self._twice.append(f"room {record['r']} rev {record['v']}: told as {told} and {known}")

    def conclude(self, log: Log) -> Iterator[Violation]:
        for detail in self._twice:
            yield Violation("rev-unique", detail)
        of: dict[Place, int] = {}
        for ack in self._acks:
            if of.setdefault((ack["r"], ack["v"]), ack["q"]) != ack["q"]:
                yield Violation("rev-unique", f"room {ack['r']} rev {ack['v']}: acknowledged for two messages")
        for ack in self._acks:
            name = f"room {ack['r']} seq {ack['q']} rev {ack['v']}"
            messages = log.messages[ack["r"]]
            stored = messages[ack["q"] - 1] if ack["q"] <= len(messages) else {}
            if stored.get("v", 0) < ack["v"]:
                yield Violation("change-stored", f"{name} was acknowledged; there stands {stored.get('v', 0)}")
            elif stored["v"] == ack["v"] and stored["d"] != ack["d"]:
                yield Violation("change-stored", f"{name} was acknowledged in another state")


class EverybodyAgrees:
    """`changes-converge`: once it is quiet, each device holds every message of its rooms as it stands."""

    def __init__(self) -> None:
        self._held: list[Record] = []

    def take(self, record: Record) -> None:
        if record["k"] == "held":
            self._held.append(record)

    def conclude(self, log: Log) -> Iterator[Violation]:
        stored: dict[str, dict[int, tuple[int, str]]] = defaultdict(dict)
        for room_id, messages in log.messages.items():
            stored[room_id] = {message["q"]: (message["v"], message["d"]) for message in messages if message.get("v")}
        for record in self._held:
            room_id, held = record["r"], {seq: (rev, state) for seq, rev, state in record["items"]}
            # What came after the quiet is not in it.
            want = {seq: state for seq, state in stored[room_id].items() if seq <= record["end"]}
            for seq in sorted(want.keys() | held.keys()):
                if want.get(seq) != held.get(seq):
                    detail = f"room {room_id} seq {seq} socket {record['s']}"
                    yield Violation("changes-converge", f"{detail}: holds {held.get(seq)}, not {want.get(seq)}")
