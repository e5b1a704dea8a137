"""The torture checker itself: a good history passes, and each rule notices the history that breaks it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.torture.checker import judge
from tests.torture.history import History

Tell = Callable[[History], None]
ROOM, ANN, BOB = "room", "ann", "bob"


def send(history: History, number: int, seq: int, *, by: str = ANN, socket: int = 1) -> None:
    history.note("send", n=number, i=number, u=by, r=ROOM, b=f"body {number}", c=None, s=socket)
    history.note("ack", n=number, m=f"m{seq}", q=seq)


def hear(history: History, *seqs: int, socket: int) -> None:
    for seq in seqs:
        history.note("new", s=socket, r=ROOM, q=seq, m=f"m{seq}")


def connect(history: History, user: str, socket: int, end: int = 0) -> None:
    history.note("dial", s=socket, u=user)
    history.note("open", s=socket, u=user)
    history.note("base", s=socket, ends={ROOM: end})


def store(history: History, *numbers: int, seqs: list[int] | None = None, body: str = "body") -> None:
    for place, number in enumerate(numbers, 1):
        seq = seqs[place - 1] if seqs else place
        history.note("stored", r=ROOM, q=seq, m=f"m{seq}", u=ANN, c=None, b=f"{body} {number}")


def marks(history: History, user: str, *, read: int, delivered: int, unread: int) -> None:
    history.note("marks", r=ROOM, u=user, delivered=delivered, read=read, unread=unread)


def begin(history: History) -> None:
    """Ann and Bob are connected, and Ann's three messages reach both."""
    history.note("room", r=ROOM, users=[ANN, BOB])
    connect(history, ANN, 1)
    connect(history, BOB, 2)
    for number in (1, 2, 3):
        send(history, number, number)


def good(history: History) -> None:
    begin(history)
    hear(history, 1, 2, 3, socket=1)
    hear(history, 1, 2, 3, socket=2)
    history.note("read", u=BOB, r=ROOM, q=2)
    history.note("marked", u=BOB, r=ROOM, q=2)
    history.note("ask", s=2, rooms=[ROOM])
    history.note("base", s=2, ends={ROOM: 3})
    history.note("quiet")
    history.note("listed", u=BOB, rooms=[ROOM], ends={ROOM: 3}, last={ROOM: "body 3"})
    store(history, 1, 2, 3)
    history.note("end", r=ROOM, q=3, m="m3")
    marks(history, ANN, read=3, delivered=3, unread=0)
    marks(history, BOB, read=2, delivered=2, unread=1)
    history.note("left", u=BOB, count=0)


def lost(history: History) -> None:
    begin(history)
    store(history, 1, 2)


def changed(history: History) -> None:
    begin(history)
    store(history, 1, 2, 3, body="b0dy")


def gap(history: History) -> None:
    begin(history)
    store(history, 1, 2, 3, seqs=[1, 2, 4])


def twice(history: History) -> None:
    begin(history)
    store(history, 1, 2, 3, 3)


def disorder(history: History) -> None:
    history.note("room", r=ROOM, users=[ANN, BOB])
    send(history, 1, 2)
    send(history, 2, 1)
    store(history, 2, 1)


def never_heard(history: History) -> None:
    begin(history)
    hear(history, 1, 3, socket=2)
    store(history, 1, 2, 3)


def heard_twice(history: History) -> None:
    begin(history)
    hear(history, 1, 2, 2, 3, socket=2)
    store(history, 1, 2, 3)


def heard_late(history: History) -> None:
    begin(history)
    hear(history, 2, 1, 3, socket=2)
    store(history, 1, 2, 3)


def end_not_heard(history: History) -> None:
    begin(history)
    hear(history, 1, 2, socket=2)
    history.note("quiet")
    store(history, 1, 2, 3)


def contradiction(history: History) -> None:
    begin(history)
    hear(history, 1, socket=2)
    history.note("synced", s=2, items=[[ROOM, 1, "other"]])
    store(history, 1, 2, 3)


def wrong_unread(history: History) -> None:
    good(history)
    marks(history, BOB, read=2, delivered=2, unread=0)


def fallen_mark(history: History) -> None:
    good(history)
    marks(history, BOB, read=1, delivered=1, unread=2)


def old_end(history: History) -> None:
    good(history)
    history.note("end", r=ROOM, q=2, m="m2")


def synced_behind(history: History) -> None:
    good(history)
    history.note("ask", s=2, rooms=[ROOM])
    history.note("base", s=2, ends={ROOM: 2})


def listed_behind(history: History) -> None:
    good(history)
    history.note("listed", u=BOB, rooms=[ROOM], ends={ROOM: 3}, last={ROOM: "body 2"})


def not_listed(history: History) -> None:
    good(history)
    history.note("listed", u=BOB, rooms=[ROOM], ends={}, last={ROOM: "body 3"})


def left_over(history: History) -> None:
    good(history)
    history.note("left", u=BOB, count=1)


def absence(history: History) -> None:
    """Bob says goodbye, Ann writes, Bob comes back."""
    history.note("room", r=ROOM, users=[ANN, BOB])
    connect(history, BOB, 2)
    history.note("lost", s=2, u=BOB, dead=True)
    send(history, 1, 1)
    connect(history, BOB, 3, end=1)


def not_handed_over(history: History) -> None:
    absence(history)
    history.note("synced", s=3, items=[[ROOM, 1, "m1"]])
    store(history, 1)


def handed_over(history: History) -> None:
    absence(history)
    history.note("queued", s=3, items=[[ROOM, 1, "m1"]])
    store(history, 1)


def listening(history: History) -> None:
    """Bob only listens; Ann writes three messages, of which he hears one live and one in a batch."""
    history.note("room", r=ROOM, users=[ANN, BOB])
    history.note("listener", u=BOB)
    history.note("dial", s=2, u=BOB)
    history.note("open", s=2, u=BOB)
    for number in (1, 2, 3):
        send(history, number, number)
    hear(history, 1, socket=2)
    history.note("queued", s=2, items=[[ROOM, 2, "m2"]])


def not_heard_at_all(history: History) -> None:
    listening(history)
    store(history, 1, 2, 3)


def heard_in_some_way(history: History) -> None:
    listening(history)
    hear(history, 3, socket=2)
    store(history, 1, 2, 3)


def rules_broken(folder: Path, tell: Tell) -> set[str]:
    history = History(folder / "history.jsonl")
    tell(history)
    history.close()
    return set(judge(history.path).rules)


def test_a_good_history_passes(tmp_path: Path) -> None:
    assert rules_broken(tmp_path, good) == set()


def test_a_handed_over_message_passes(tmp_path: Path) -> None:
    assert "offline-handed-over" not in rules_broken(tmp_path, handed_over)


def test_who_only_listens_and_hears_all_passes(tmp_path: Path) -> None:
    assert "listener-hears" not in rules_broken(tmp_path, heard_in_some_way)


def change(history: History, seq: int, rev: int, *, state: str = "new", by: int = 1) -> None:
    history.note("change", n=by, u=ANN, m=f"m{seq}", e="message:edit")
    history.note("change-ack", n=by, r=ROOM, q=seq, v=rev, d=state)


def store_changed(history: History, rev: int, state: str) -> None:
    store(history, 1, 2)
    history.note("stored", r=ROOM, q=3, m="m3", u=ANN, c=None, b="body 3 ~1", v=rev, d=state, gone=False, notice=False)


def lost_change(history: History) -> None:
    begin(history)
    change(history, 3, 2)
    store_changed(history, 1, "new")


def other_change(history: History) -> None:
    begin(history)
    change(history, 3, 2)
    store_changed(history, 2, "old")


def one_number_for_two(history: History) -> None:
    begin(history)
    change(history, 3, 1)
    change(history, 2, 1, by=2)
    store_changed(history, 1, "new")


def told_differently(history: History) -> None:
    begin(history)
    for socket, state in ((1, "new"), (2, "other")):
        history.note("changed", s=socket, r=ROOM, q=3, v=1, p=0, d=state)
    store_changed(history, 1, "new")


def kept_old(history: History) -> None:
    begin(history)
    history.note("held", s=2, r=ROOM, end=3, items=[])
    store_changed(history, 1, "new")


GUEST = "guest"


def visit(history: History) -> None:
    """A guest is added at 2, removed at 4, joins at 6; Ann writes 1, 3, 5 and 7."""
    history.note("room", r=ROOM, users=[])
    history.note("guest", r=ROOM, u=GUEST)
    history.note("dial", s=9, u=GUEST)
    for number, is_in in ((1, True), (2, False), (3, True)):
        history.note("move", n=number, r=ROOM, u=GUEST, inside=is_in)
        history.note("moved", n=number)
    for number, seq in ((1, 1), (2, 3), (3, 5), (4, 7)):
        send(history, number, seq)


def stored_visit(history: History, *, inside: bool = True, without: int = 0) -> None:
    history.note("guest-held", r=ROOM, u=GUEST, inside=inside)
    told = {2: ("ADDED", ANN), 4: ("REMOVED", ANN), 6: ("JOINED", GUEST)}
    for seq in range(1, 8):
        kind, by = told.get(seq, ("", ANN))
        of = [GUEST] if kind and seq != without else []
        body = kind or f"body {(seq + 1) // 2}"
        history.note("stored", r=ROOM, q=seq, m=f"m{seq}", u=by, c=None, b=body, notice=kind, of=of)
    history.note("seated", r=ROOM, users=[ANN, GUEST])


def heard_visit(history: History) -> None:
    history.note("inside", s=9, r=ROOM)
    hear(history, 2, 3, socket=9)
    history.note("outside", s=9, r=ROOM)
    history.note("inside", s=9, r=ROOM)
    hear(history, 6, 7, socket=9)


def good_visit(history: History) -> None:
    visit(history)
    heard_visit(history)
    history.note("peeked", r=ROOM, u=GUEST, status=404)
    stored_visit(history)


def heard_outside(history: History) -> None:
    good_visit(history)
    history.note("synced", s=9, items=[[ROOM, 5, "m5"]])


def heard_after_the_last_event(history: History) -> None:
    visit(history)
    history.note("inside", s=9, r=ROOM)
    history.note("outside", s=9, r=ROOM)
    hear(history, 3, socket=9)
    stored_visit(history)


def wrote_outside(history: History) -> None:
    good_visit(history)
    history.note("stored", r=ROOM, q=5, m="m5", u=GUEST, c=None, b="body", notice="", of=[])


def looked_in(history: History) -> None:
    good_visit(history)
    history.note("peeked", r=ROOM, u=GUEST, status=200)


def missed_at_the_end(history: History) -> None:
    visit(history)
    hear(history, 6, socket=9)
    stored_visit(history)


def gap_of_a_guest(history: History) -> None:
    visit(history)
    hear(history, 2, 3, 6, 7, socket=9)
    stored_visit(history)


def forgotten_move(history: History) -> None:
    visit(history)
    heard_visit(history)
    stored_visit(history, without=4)


def not_told(history: History) -> None:
    visit(history)
    heard_visit(history)
    stored_visit(history, inside=False)


def not_listed_as_member(history: History) -> None:
    good_visit(history)
    history.note("seated", r=ROOM, users=[ANN])


def shut_out(history: History, *, silenced: tuple[str, ...] = (BOB,)) -> None:
    """Bob is shut out, sends, and is refused; what he sent before is unanswered until he is let in."""
    history.note("room", r=ROOM, users=[])
    history.note("send", n=1, i=1, u=BOB, r=ROOM, b="body 1", c=None, s=None)
    history.note("shut", r=ROOM, users=list(silenced))
    history.note("ack", n=1, m="m1", q=1)
    history.note("overheard", r=ROOM, u=BOB, by=ANN, b="from before")
    for number in (2, 3):
        history.note("send", n=number, i=number, u=BOB, r=ROOM, b=f"body {number}", c=None, s=None)
    history.note("refused", n=2, code="FORBIDDEN")
    history.note("knock", u=BOB)


def let_in(history: History) -> None:
    history.note("opening", r=ROOM, users=[BOB])
    history.note("ack", n=3, m="m3", q=2)
    history.note("let-in", u=BOB)
    for seq, number in ((1, 1), (2, 3)):
        history.note("stored", r=ROOM, q=seq, m=f"m{number}", u=BOB, c=None, b=f"body {number}")


def good_silence(history: History) -> None:
    shut_out(history)
    let_in(history)


def acknowledged_while_out(history: History) -> None:
    shut_out(history)
    history.note("ack", n=3, m="m3", q=2)
    let_in(history)


def stored_while_out(history: History) -> None:
    good_silence(history)
    history.note("stored", r=ROOM, q=3, m="m2", u=BOB, c=None, b="body 2")


def connected_while_out(history: History) -> None:
    shut_out(history)
    history.note("let-in", u=BOB)
    let_in(history)


def heard_while_out(history: History) -> None:
    shut_out(history)
    history.note("send", n=4, i=4, u=ANN, r=ROOM, b="body 4", c=None, s=None)
    history.note("overheard", r=ROOM, u=BOB, by=ANN, b="body 4")
    let_in(history)


def test_good_silence_passes(tmp_path: Path) -> None:
    assert rules_broken(tmp_path, good_silence) == set()


def test_a_good_visit_passes(tmp_path: Path) -> None:
    assert rules_broken(tmp_path, good_visit) == set()


@pytest.mark.parametrize(
    ("tell", "rule"),
    [
        (heard_outside, "removed-is-out"),
        (heard_after_the_last_event, "removed-is-out"),
        (wrote_outside, "removed-is-out"),
        (looked_in, "removed-is-out"),
        (missed_at_the_end, "guest-complete"),
        (gap_of_a_guest, "guest-order"),
        (forgotten_move, "members-stored"),
        (not_listed_as_member, "members-stored"),
        (not_told, "members-converge"),
        (acknowledged_while_out, "shut-out-is-silent"),
        (stored_while_out, "shut-out-is-silent"),
        (connected_while_out, "shut-out-is-deaf"),
        (heard_while_out, "shut-out-is-deaf"),
        (lost, "stored-once"),
        (changed, "bytes-equal"),
        (changed, "nothing-unsent"),
        (gap, "gap-free"),
        (twice, "stored-once"),
        (disorder, "send-order"),
        (never_heard, "stream-complete"),
        (never_heard, "stream-live"),
        (end_not_heard, "stream-live"),
        (heard_twice, "stream-no-double"),
        (heard_late, "stream-order"),
        (contradiction, "one-order"),
        (wrong_unread, "unread-agrees"),
        (fallen_mark, "marks-kept"),
        (old_end, "last-message"),
        (synced_behind, "sync-current"),
        (listed_behind, "lists-agree"),
        (not_listed, "lists-agree"),
        (left_over, "queue-owes-nothing"),
        (not_handed_over, "offline-handed-over"),
        (not_heard_at_all, "listener-hears"),
        (lost_change, "change-stored"),
        (other_change, "change-stored"),
        (one_number_for_two, "rev-unique"),
        (told_differently, "rev-unique"),
        (kept_old, "changes-converge"),
    ],
)
def test_each_rule_notices(tell: Tell, rule: str, tmp_path: Path) -> None:
    assert rule in rules_broken(tmp_path, tell)
