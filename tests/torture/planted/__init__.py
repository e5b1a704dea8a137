"""Planted bugs: each module runs the server with one promise broken on purpose, so that the checker must notice.

The product knows nothing of them: they patch one function, then run `main`. `make torture PLANTED=name` runs one.
"""

import sys
from typing import NamedTuple, NoReturn


class Planted(NamedTuple):
    """Which faults bring a bug to light, and the rules of which one at least must be broken."""

    faults: str
    caught_by: frozenset[str]


PLANTED = {
    "ack_before_insert": Planted("kill-server=6", frozenset({"stored-once"})),
    "no_journal": Planted("kill-mongodb=6", frozenset({"stored-once"})),
    "number_by_counter": Planted("kill-server=6", frozenset({"gap-free", "stored-once"})),
    "trim_before_ack": Planted("cut-people=8,kill-server=6", frozenset({"offline-handed-over"})),
    "deliver_twice": Planted("delay-people=1", frozenset({"stream-no-double"})),
    "forget_unconfirmed": Planted("cut-people=8,kill-server=4", frozenset({"listener-hears"})),
    "one_rev_for_all": Planted("delay-people=2", frozenset({"rev-unique", "changes-converge"})),
    "ack_before_change": Planted("kill-server=8", frozenset({"change-stored"})),
    "silent_changes": Planted("delay-people=2", frozenset({"changes-converge"})),
    "still_a_member": Planted("delay-people=5", frozenset({"removed-is-out"})),
    "forget_blocks": Planted("kill-server=8", frozenset({"shut-out-is-silent"})),
    "keep_inactive": Planted("delay-people=5", frozenset({"shut-out-is-silent", "shut-out-is-deaf"})),
    "count_notices": Planted("delay-people=1", frozenset({"unread-agrees"})),
    "forget_after_crash": Planted(
        "crash-after-insert=6,crash-after-ack=6", frozenset({"offline-handed-over", "listener-hears"})
    ),
}


def serve() -> NoReturn:
    """Run the server's own command line."""
    from main import main

    sys.exit(main(sys.argv[1:]))
