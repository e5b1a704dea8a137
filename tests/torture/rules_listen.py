"""The rule on users who only listen: they get every message, live or in a batch."""

from collections import defaultdict
from collections.abc import Iterator

from tests.torture.history import Record
from tests.torture.verdict import Log, Violation

# A message that was sent shortly before may be on its way to the queue.
AFTERMATH = 2.0


class ListenersHear:
    """`listener-hears`: somebody who only listens, was cut off, fell silent and came back at random, has heard every
    stored message of others, as `message:new` or in `messages:offline`.

    Nothing is promised of what was sent before Redis lost what it held.
    """

    def __init__(self) -> None:
        # How many messages there were to judge.
        self.judged = 0
        self._listeners: set[str] = set()
        self._users: dict[int, str] = {}
        self._heard: dict[str, set[str]] = defaultdict(set)
        self._sent_at: dict[tuple[str, str, str], float] = {}
        self._struck_at: float | None = None
        self._lost_until = 0.0

    def take(self, record: Record) -> None:
        kind = record["k"]
        if kind == "listener":
            self._listeners.add(record["u"])
        elif kind == "dial":
            self._users[record["s"]] = record["u"]
        elif kind == "new":
            self._heard[self._users[record["s"]]].add(record["m"])
        elif kind == "queued":
            self._heard[self._users[record["s"]]].update(item[2] for item in record["items"])
        elif kind == "send":
            self._sent_at.setdefault((record["r"], record["u"], record["b"]), record["t"])
        elif kind == "fault":
            self._struck_at = record["t"] if "redis" in record["hurts"] else None
        elif kind == "healed" and self._struck_at is not None:
            self._lost_until = record["t"] + AFTERMATH

    def conclude(self, log: Log) -> Iterator[Violation]:
        for room_id, messages in log.messages.items():
            for user_id in self._listeners.intersection(log.members[room_id]):
                missing = []
                for message in messages:
                    sent_at = self._sent_at.get((room_id, message["u"], message["b"]), 0.0)
                    if message["u"] != user_id and (not self._lost_until or sent_at > self._lost_until):
                        self.judged += 1
                        if message["m"] not in self._heard[user_id]:
                            missing.append(message["q"])
                if missing:
                    yield Violation(
                        "listener-hears", f"room {room_id} user {user_id}: {len(missing)} never heard {missing[:8]}"
                    )
