"""Unread counts as a property: whatever happens in a group, crashes included, they equal a recount of the log."""

from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from server.models import HistoryMode, Member, Message, Notice, Position, Room, RoomDetails
from server.room_state import Bounds, RoomChanges, RoomState

AT = datetime(2026, 1, 1, tzinfo=UTC)
USERS = ("ann", "bob", "cho", "dee")
BOUNDS = Bounds(50, 100, 100)


class Documents:
    """What the database holds: members, former members, and the saved end. Marks there only rise."""

    def __init__(self, details: RoomDetails) -> None:
        self.details = details
        self.members = {"ann": Member("room", "ann", role="OWNER")}
        self.former: dict[str, Member] = {}
        # Marks of members whose membership is not stored yet.
        self.early: dict[str, Member] = {}
        self.end: Message | None = None

    def save(self, changes: RoomChanges) -> None:
        for joined in changes.joined:
            before = self._find(joined.user_id)
            if before is None or before.changed_seq < joined.changed_seq:
                self.former.pop(joined.user_id, None)
                self.members[joined.user_id] = raised(joined, before)
        for left in changes.left:
            before = self._find(left.user_id)
            if before is None or before.changed_seq < left.changed_seq:
                self.members.pop(left.user_id, None)
                self.former[left.user_id] = raised(left, before)
        for marks in changes.marks:
            self.raise_marks(marks)
        self.end = changes.end.last_message

    def raise_marks(self, marks: Member) -> None:
        for kept in (self.members, self.former):
            if marks.user_id in kept:
                kept[marks.user_id] = raised(kept[marks.user_id], marks)
                return
        self.early[marks.user_id] = raised(marks, self.early.get(marks.user_id))

    def _find(self, user_id: str) -> Member | None:
        return self.members.get(user_id) or self.former.get(user_id) or self.early.pop(user_id, None)


def raised(member: Member, other: Member | None) -> Member:
    """The member with the higher ones of both marks, each by itself, as the database does it."""
    if other is None:
        return member
    read = Position(*map(max, member.read, other.read))
    delivered = max(member.last_delivered_seq, other.last_delivered_seq)
    return msgspec.structs.replace(member, sent=max(member.sent, other.sent), read=read, last_delivered_seq=delivered)


class Group:
    """A group whose log, documents and memory can be lost apart; and the truth about who has read what."""

    def __init__(self, history: HistoryMode) -> None:
        self.history = history
        self.log: list[Message] = []
        self.documents = Documents(RoomDetails("Yard", history=history))
        self.read = {"ann": 0}
        self.joined = {"ann": 0}
        self.load()

    def load(self) -> None:
        """As after a crash: the documents, then the log beyond the saved end."""
        documents = self.documents
        room = Room("room", "ann", None, AT, "GROUP", documents.details, last_message=documents.end)
        self.state = RoomState(room, documents.members.values(), BOUNDS)
        self.state.former = documents.former | documents.early
        for message in self.log[self.state.last_seq :]:
            self.state.append(message)

    def save(self) -> None:
        self.documents.save(self.state.take_changes())

    def send(self, user_id: str) -> None:
        had_read_all = self.expected(user_id) == 0
        self._append(user_id, None)
        if had_read_all:
            self.read[user_id] = len(self.log)

    def mark_read(self, user_id: str, seq: int) -> None:
        """Marks are stored before they count."""
        message = self.log[seq - 1]
        if not self.state.may_see(user_id, seq) or seq <= self.state.members[user_id].read.seq:
            return
        own = sum(1 for one in self.log[:seq] if one.sender_id == user_id and one.notice is None)
        position = self.state.position_of(message, user_id) or Position(seq, own, message.notices)
        assert position == Position(seq, own, message.notices)
        self.documents.raise_marks(Member("room", user_id, sent=self.state.members[user_id].sent, read=position))
        self.state.members[user_id].raise_read(position)
        self.read[user_id] = max(self.read[user_id], seq)

    def add(self, user_id: str, *, is_saved: bool) -> None:
        former = (self.documents.former | self.documents.early).get(user_id)
        if former is not None:
            self.state.former[user_id] = former
        self._append("ann", Notice("ADDED", (user_id,)))
        self.joined[user_id] = len(self.log) - 1
        if self.history == "JOINED" or user_id not in self.read:
            self.read[user_id] = 0
        self._end_change(is_saved)

    def remove(self, user_id: str, *, is_saved: bool) -> None:
        self._append("ann", Notice("REMOVED", (user_id,)))
        del self.joined[user_id]
        self._end_change(is_saved)

    def _end_change(self, is_saved: bool) -> None:
        """It is saved before it is acknowledged; or the server dies before it is."""
        if is_saved:
            self.save()
        else:
            self.load()

    def _append(self, user_id: str, notice: Notice | None) -> None:
        notices = self.state.notices + (notice is not None)
        sender_seq = self.state.sent_by(user_id) + (notice is None)
        seq = len(self.log) + 1
        content, kind = ("", "NOTICE") if notice else ("x", "TEXT")
        message = Message(
            f"m{seq}",
            "room",
            seq,
            user_id,
            sender_seq,
            content,
            kind,  # type: ignore[arg-type]
            AT,
            notices=notices,
            notice=notice,
        )
        self.log.append(message)
        self.state.append(message)

    def expected(self, user_id: str) -> int:
        start = max(self.read[user_id], self.joined[user_id] if self.history == "JOINED" else 0)
        return sum(1 for one in self.log[start:] if one.notice is None and one.sender_id != user_id)

    def check(self) -> None:
        assert set(self.state.members) == set(self.joined)
        for user_id in self.joined:
            assert self.state.unread(user_id) == self.expected(user_id), user_id
            assert self.state.sent_by(user_id) == sum(
                1 for one in self.log if one.sender_id == user_id and one.notice is None
            )


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(USERS)),
        st.tuples(st.just("read"), st.sampled_from(USERS), st.integers(0, 30)),
        st.tuples(st.just("move"), st.sampled_from(USERS[1:]), st.booleans()),
        st.just(("save",)),
        st.just(("crash",)),
    ),
    max_size=40,
)


@given(steps=STEPS, history=st.sampled_from(["ALL", "JOINED"]))
def test_counts_are_those_of_a_recount(steps: list[tuple[object, ...]], history: HistoryMode) -> None:
    group = Group(history)
    for step in steps:
        what, user_id = step[0], str(step[1]) if len(step) > 1 else ""
        if what == "send" and user_id in group.joined:
            group.send(user_id)
        elif what == "read" and user_id in group.joined and group.log:
            group.mark_read(user_id, 1 + int(str(step[2])) % len(group.log))
        elif what == "move" and user_id in group.joined:
            group.remove(user_id, is_saved=bool(step[2]))
        elif what == "move":
            group.add(user_id, is_saved=bool(step[2]))
        elif what == "save":
            group.save()
        elif what == "crash":
            group.load()
        group.check()
