"""The judge: reads a round's history once and says which promises were broken, by name. O(n) in the records.

By hand: `python -m tests.torture.checker HISTORY…`
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.torture.history import Record, read_history
from tests.torture.rules_changes import ChangesAreStored, EverybodyAgrees
from tests.torture.rules_listen import ListenersHear
from tests.torture.rules_lists import ListsAgree, SyncIsCurrent
from tests.torture.rules_log import AcknowledgedIsStored, LogIsWhole, OneOrder
from tests.torture.rules_marks import MarksAgree, QueueIsEmpty
from tests.torture.rules_members import MembersFollowTheLog
from tests.torture.rules_offline import OfflineHandedOver
from tests.torture.rules_outcasts import ShutOutAreSilent
from tests.torture.rules_stream import LiveStreams, WholeStreams
from tests.torture.verdict import Log, Violation

MOST_SHOWN = 25


class Rule(Protocol):
    """Takes every record in order, and judges when the log is known."""

    def take(self, record: Record) -> None: ...

    def conclude(self, log: Log) -> Iterator[Violation]: ...


class Judgement(NamedTuple):
    violations: list[Violation]
    counts: Counter[str]

    def __str__(self) -> str:
        shown = [str(violation) for violation in self.violations[:MOST_SHOWN]]
        more = len(self.violations) - len(shown)
        return "\n".join([*shown, *([f"… and {more} more"] if more > 0 else [])])

    @property
    def rules(self) -> Counter[str]:
        """How often each rule was broken."""
        return Counter(violation.rule for violation in self.violations)


def judge(path: Path) -> Judgement:
    """Every violation in a history, and how many records of each kind there were to judge."""
    offline, listening, outcasts = OfflineHandedOver(), ListenersHear(), ShutOutAreSilent()
    rules: list[Rule] = [
        AcknowledgedIsStored(),
        LogIsWhole(),
        OneOrder(),
        WholeStreams(),
        LiveStreams(),
        SyncIsCurrent(),
        ListsAgree(),
        MarksAgree(),
        QueueIsEmpty(),
        ChangesAreStored(),
        EverybodyAgrees(),
        MembersFollowTheLog(),
        outcasts,
        offline,
        listening,
    ]
    counts: Counter[str] = Counter()
    log = Log({}, defaultdict(list))
    for record in read_history(path):
        counts[record["k"]] += 1
        if record["k"] == "room":
            log.members[record["r"]] = record["users"]
        elif record["k"] == "stored":
            log.messages[record["r"]].append(record)
        for rule in rules:
            rule.take(record)
    violations = [violation for rule in rules for violation in rule.conclude(log)]
    counts["owed"] = offline.owed
    counts["listened"] = listening.judged
    counts["silenced"] = outcasts.judged
    return Judgement(violations, counts)


if __name__ == "__main__":
    broken = 0
    for name in sys.argv[1:]:
        judgement = judge(Path(name))
        broken += len(judgement.violations)
        print(f"{name}: {len(judgement.violations)} violations {dict(judgement.rules)} {dict(judgement.counts)}")
        if judgement.violations:
            print(judgement)
    sys.exit(1 if broken else 0)
