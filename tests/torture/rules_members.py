"""Rules on who comes to a room and goes: the log tells it, and nobody hears or writes anything outside their time."""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from tests.torture.history import Record
from tests.torture.verdict import Log, Violation

# A guest of a room: room and user.
Seat = tuple[str, str]
ARRIVALS, DEPARTURES = ("ADDED", "JOINED"), ("REMOVED", "LEFT")
LONGEST_LIST = 8


class _Stay(NamedTuple):
    """The numbers of the messages of one stay: from the notice of arrival to before that of departure."""

    first: int
    end: float

    def __contains__(self, seq: object) -> bool:
        return isinstance(seq, int) and self.first <= seq < self.end


class MembersFollowTheLog:
    """`members-stored`: every acknowledged coming and going is told in the log, once, and the members are who it says.
    `members-converge`: and so does each guest's device.
    `removed-is-out`: nobody who was removed hears, reads or writes anything of the room: no message outside one's
    stays, in any way; nothing at all between `room:removed` and `room:new`; 404 for its history.
    `guest-complete`: who is in at the end has all messages of that stay.
    `guest-order`: live, the messages of a stay come in order, without doubles and without gaps.
    """

    def __init__(self) -> None:
        self._users: dict[int, str] = {}
        self._moves: dict[int, Record] = {}
        self._moved: dict[Seat, list[bool]] = defaultdict(list)
        self._guests: set[Seat] = set()
        self._heard: dict[Seat, set[int]] = defaultdict(set)
        # Of each socket and room: what came live since the last word on whether one is in.
        self._live: dict[tuple[int, str], list[int]] = defaultdict(list)
        self._closed: set[tuple[int, str]] = set()
        self._held: list[Record] = []
        self._seated: dict[str, list[str]] = {}
        self._found: list[Violation] = []

    def take(self, record: Record) -> None:
        handle = getattr(self, f"_on_{record['k'].replace('-', '_')}", None)
        if handle is not None:
            handle(record)

    def conclude(self, log: Log) -> Iterator[Violation]:
        yield from self._found
        stays = {seat: _find_stays(seat, log) for seat in self._guests}
        for seat in sorted(self._guests):
            yield from self._judge(seat, stays[seat], log)
        for held in self._held:
            own = stays[held["r"], held["u"]]
            is_in = bool(own) and own[-1].end == float("inf")
            if held["inside"] != is_in:
                yield Violation(
                    "members-converge",
                    f"{_name((held['r'], held['u']))}: its device says {held['inside']}, the log {is_in}",
                )

    def _judge(self, seat: Seat, stays: list[_Stay], log: Log) -> Iterator[Violation]:
        room_id, user_id = seat
        moved, is_in = self._moved[seat], bool(stays) and stays[-1].end == float("inf")
        told = [is_arrival for is_arrival, _seq in _find_moves(seat, log)]
        if told != moved:
            yield Violation("members-stored", f"{_name(seat)}: was moved {moved}, the log tells {told}")
        if (user_id in self._seated[room_id]) != is_in:
            yield Violation("members-stored", f"{_name(seat)}: the log says {is_in}, the list of members does not")
        outside = sorted(seq for seq in self._heard[seat] if not any(seq in stay for stay in stays))
        if outside:
            yield Violation("removed-is-out", f"{_name(seat)}: heard {outside[:LONGEST_LIST]}, was in for {stays}")
        written = [message["q"] for message in log.messages[room_id] if message["u"] == user_id]
        # One's own arrival and departure are told in one's own name.
        strange = [seq for seq in written if not any(seq in stay or seq == stay.end for stay in stays)]
        if strange:
            yield Violation("removed-is-out", f"{_name(seat)}: wrote {strange[:LONGEST_LIST]}, was in for {stays}")
        if is_in:
            missing = [
                message["q"]
                for message in log.messages[room_id]
                if message["q"] in stays[-1] and message["q"] not in self._heard[seat]
            ]
            if missing:
                yield Violation("guest-complete", f"{_name(seat)}: never heard {missing[:LONGEST_LIST]}")

    def _on_guest(self, record: Record) -> None:
        self._guests.add((record["r"], record["u"]))

    def _on_dial(self, record: Record) -> None:
        self._users[record["s"]] = record["u"]

    def _on_move(self, record: Record) -> None:
        self._moves[record["n"]] = record

    def _on_moved(self, record: Record) -> None:
        move = self._moves[record["n"]]
        self._moved[move["r"], move["u"]].append(move["inside"])

    def _on_peeked(self, record: Record) -> None:
        # Without a store nobody is told anything.
        if record["status"] not in (404, 503, 599):
            detail = f"{_name((record['r'], record['u']))}: history answered {record['status']}"
            self._found.append(Violation("removed-is-out", detail))

    def _on_inside(self, record: Record) -> None:
        place = record["s"], record["r"]
        self._closed.discard(place)
        self._live[place] = []

    def _on_outside(self, record: Record) -> None:
        self._closed.add((record["s"], record["r"]))

    def _on_new(self, record: Record) -> None:
        seat, place = (record["r"], self._users[record["s"]]), (record["s"], record["r"])
        if seat not in self._guests:
            return
        self._heard[seat].add(record["q"])
        self._check_open(place, seat)
        live = self._live[place]
        if live and record["q"] != live[-1] + 1:
            detail = f"{_name(seat)} socket {record['s']}: {record['q']} came after {live[-1]}"
            self._found.append(Violation("guest-order", detail))
        live.append(record["q"])

    def _on_changed(self, record: Record) -> None:
        seat = record["r"], self._users[record["s"]]
        if seat in self._guests:
            self._heard[seat].add(record["q"])
            self._check_open((record["s"], record["r"]), seat)

    def _on_queued(self, record: Record) -> None:
        for room_id, seq, _message_id in record["items"]:
            if (room_id, self._users[record["s"]]) in self._guests:
                self._heard[room_id, self._users[record["s"]]].add(seq)

    _on_synced = _on_queued

    def _on_guest_held(self, record: Record) -> None:
        self._held.append(record)

    def _on_seated(self, record: Record) -> None:
        self._seated[record["r"]] = record["users"]

    def _check_open(self, place: tuple[int, str], seat: Seat) -> None:
        if place in self._closed:
            self._found.append(Violation("removed-is-out", f"{_name(seat)} socket {place[0]}: heard after its removal"))


def _find_moves(seat: Seat, log: Log) -> list[tuple[bool, int]]:
    """From the notices of the log: whether it is an arrival, and its `seq`."""
    room_id, user_id = seat
    return [
        (message["notice"] in ARRIVALS, message["q"])
        for message in log.messages[room_id]
        if message.get("notice") in (*ARRIVALS, *DEPARTURES) and user_id in message["of"]
    ]


def _find_stays(seat: Seat, log: Log) -> list[_Stay]:
    moves = [*_find_moves(seat, log), (False, float("inf"))]
    return [_Stay(int(seq), end) for (is_arrival, seq), (_, end) in itertools.pairwise(moves) if is_arrival]


def _name(seat: Seat) -> str:
    return f"room {seat[0]} guest {seat[1]}"
