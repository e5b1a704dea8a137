"""The rule on the offline queue: what came while somebody had no socket is handed over at a later connect."""

import bisect
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from tests.torture.history import Record
from tests.torture.verdict import Log, Violation

# A message that was sent shortly before may be on its way to the queue.
AFTERMATH = 2.0
# Within this time of a kill, everybody with a connection knows of it, and no new server is there yet.
KILL_NOTICED = 0.5


class _Absence(NamedTuple):
    """A time in which a user certainly had no socket."""

    begin: float
    end: float


class OfflineHandedOver:
    """`offline-handed-over`: a stored message of others, sent and settled while its receiver was away, comes in
    `messages:offline`. Settled means acknowledged, or that the server was killed and every attempt ended with it: one
    that is still under way may be stored by the next server, when the receiver is back.

    Where a store could not be asked at that time, it comes when the store is back, and where the receiver was cut off
    at once again, with the next connection that lasts. Nothing is promised where Redis lost what it held before, or
    where the receiver has read the message by then.
    """

    def __init__(self) -> None:
        # How many messages there were to judge.
        self.owed = 0
        self._open: dict[str, set[int]] = defaultdict(set)
        self._certain: dict[str, float] = {}
        self._dialled: dict[int, float] = {}
        self._absences: dict[str, list[_Absence]] = defaultdict(list)
        # From when to when each socket was connected, and which of these is whose.
        self._connections: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._opened: dict[int, int] = {}
        self._queued: dict[str, set[str]] = defaultdict(set)
        self._users: dict[int, str] = {}
        self._attempts: dict[int, list[Record]] = defaultdict(list)
        self._intents: dict[int, int] = {}
        self._acked_at: dict[int, float] = {}
        self._ended_at: dict[int, float] = {}
        self._kills: list[float] = []
        # When Redis lost what it held, and when it or MongoDB could not be asked.
        self._spans: dict[str, list[tuple[float, float]]] = {"hurts": [], "halts": []}
        self._struck_at: dict[str, float] = {}
        self._reads: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
        # Rooms of so many that there are no queues.
        self._crowds: set[str] = set()

    def take(self, record: Record) -> None:
        handle = getattr(self, f"_on_{record['k'].replace('-', '_')}", None)
        if handle is not None:
            handle(record)

    def conclude(self, log: Log) -> Iterator[Violation]:
        by_key = {(tries[0]["r"], tries[0]["u"], tries[0]["b"]): intent for intent, tries in self._attempts.items()}
        for room_id, messages in log.messages.items():
            for message in messages:
                intent = by_key.get((room_id, message["u"], message["b"]))
                if intent is None or room_id in self._crowds:
                    continue
                for user_id in log.members[room_id]:
                    absence = self._missed(intent, user_id) if user_id != message["u"] else None
                    if absence is not None and not self._is_read(user_id, message, self._due(user_id, absence)):
                        self.owed += 1
                        if message["m"] not in self._queued[user_id]:
                            yield Violation(
                                "offline-handed-over",
                                f"room {room_id} seq {message['q']} id {message['m']} intent {intent}: user {user_id}"
                                f" was away from {absence.begin} to {absence.end} and never got it",
                            )

    def _missed(self, intent: int, user_id: str) -> _Absence | None:
        """The absence in which this message was sent and settled, if there is one that counts."""
        first, last = self._attempts[intent][0]["t"], self._attempts[intent][-1]["t"]
        absences = self._absences[user_id]
        index = bisect.bisect_right(absences, first, key=lambda absence: absence.begin) - 1
        if index < 0 or not absences[index].begin <= first <= last <= absences[index].end:
            return None
        absence = absences[index]
        acked = self._acked_at.get(intent)
        is_settled = acked is not None and acked <= absence.end
        kill = bisect.bisect_right(self._kills, last)
        if not is_settled and kill < len(self._kills):
            ended = self._ended_at.get(intent, float("inf"))
            is_settled = ended <= self._kills[kill] + KILL_NOTICED and self._kills[kill] <= absence.end
        due = self._due(user_id, absence)
        is_hurt = any(begin <= due and first <= end + AFTERMATH for begin, end in self._spans["hurts"])
        return absence if is_settled and not is_hurt else None

    def _due(self, user_id: str, absence: _Absence) -> float:
        """When what came in this absence must have been handed over."""
        for begin, end in self._connections[user_id]:
            asked = self._when_asked(begin)
            if begin >= absence.end and end - asked > AFTERMATH:
                return asked + AFTERMATH
        return float("inf")

    def _when_asked(self, connected: float) -> float:
        """When the stores could be asked for what waits for a socket that connected then."""
        for begin, end in self._spans["halts"]:
            if begin <= connected + AFTERMATH and connected <= end + AFTERMATH:
                connected = max(connected, end)
        return connected

    def _is_read(self, user_id: str, message: Record, due: float) -> bool:
        """Whether the receiver has read it before it was due, which takes it from the queue."""
        reads = self._reads[user_id, message["r"]]
        return any(at <= due and seq >= message["q"] for at, seq in reads)

    def _on_dial(self, record: Record) -> None:
        user_id = record["u"]
        self._users[record["s"]] = user_id
        self._dialled[record["s"]] = record["t"]
        self._open[user_id].add(record["s"])

    def _on_open(self, record: Record) -> None:
        self._opened[record["s"]] = len(self._connections[record["u"]])
        self._connections[record["u"]].append((record["t"], float("inf")))
        self._end_absence(record)

    def _on_refused_dial(self, record: Record) -> None:
        """Where the server was dead all the time, nobody has seen this dial; else somebody may have."""
        self._open[record["u"]].discard(record["s"])
        if not record["dead"]:
            self._end_absence(record)

    def _end_absence(self, record: Record) -> None:
        begin = self._certain.pop(record["u"], None)
        if begin is not None:
            self._absences[record["u"]].append(_Absence(begin, self._dialled[record["s"]]))

    def _on_lost(self, record: Record) -> None:
        user_id = record["u"]
        opened = self._opened.pop(record["s"], None)
        if opened is not None:
            begin, _ = self._connections[user_id][opened]
            self._connections[user_id][opened] = begin, record["t"]
        self._open[user_id].discard(record["s"])
        if not self._open[user_id] and record["dead"]:
            self._certain[user_id] = record["t"]

    def _on_room(self, record: Record) -> None:
        if not record.get("queues", True):
            self._crowds.add(record["r"])

    def _on_queued(self, record: Record) -> None:
        self._queued[self._users[record["s"]]].update(item[2] for item in record["items"])

    def _on_send(self, record: Record) -> None:
        self._attempts[record["i"]].append(record)
        self._intents[record["n"]] = record["i"]

    def _on_ack(self, record: Record) -> None:
        self._acked_at.setdefault(self._intents[record["n"]], record["t"])

    def _on_unknown(self, record: Record) -> None:
        self._ended_at[self._intents[record["n"]]] = record["t"]

    _on_refused = _on_unknown

    def _on_killed(self, record: Record) -> None:
        self._kills.append(record["t"])

    def _on_read(self, record: Record) -> None:
        self._reads[record["u"], record["r"]].append((record["t"], record["q"]))

    def _on_fault(self, record: Record) -> None:
        self._struck_at = {kind: record["t"] for kind in self._spans if record.get(kind)}

    def _on_healed(self, record: Record) -> None:
        for kind, begin in self._struck_at.items():
            self._spans[kind].append((begin, record["t"]))
        self._struck_at = {}
