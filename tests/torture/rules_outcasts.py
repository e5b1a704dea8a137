"""The rule on people who are shut out: nothing that they send then comes through, and they hear nothing."""

from collections.abc import Iterator

from tests.torture.history import Record
from tests.torture.verdict import Log, Violation

# A room and who is silenced in it.
Silence = tuple[str, str]


class ShutOutAreSilent:
    """`shut-out-is-silent`: of what somebody began to send after they were shut out, nothing was acknowledged before
    they were let in, and nothing is stored unless it was still unanswered then. `shut-out-is-deaf`: who is shut out
    neither connects nor hears what others began to send then.
    """

    def __init__(self) -> None:
        # How many messages there were to judge.
        self.judged = 0
        self._out: set[Silence] = set()
        # Of the attempts that began in silence: who made them, and with which body.
        self._open: dict[int, tuple[Silence, str]] = {}
        self._silent: set[tuple[Silence, str]] = set()
        # What others sent while somebody was out, as long as they are.
        self._unheard: dict[str, set[str]] = {}
        self._knocked_out: set[str] = set()
        self._found: list[Violation] = []

    def take(self, record: Record) -> None:
        handle = getattr(self, f"_on_{record['k'].replace('-', '_')}", None)
        if handle is not None:
            handle(record)

    def conclude(self, log: Log) -> Iterator[Violation]:
        yield from self._found
        for room_id, messages in log.messages.items():
            for message in messages:
                if ((room_id, message["u"]), message["b"]) in self._silent:
                    name = f"room {room_id} seq {message['q']} user {message['u']}"
                    yield Violation("shut-out-is-silent", f"{name}: {message['b']!r} was sent while shut out")

    def _on_shut(self, record: Record) -> None:
        self._out.update((record["r"], user_id) for user_id in record["users"])

    def _on_opening(self, record: Record) -> None:
        seats = {(record["r"], user_id) for user_id in record["users"]}
        self._out -= seats
        # What has no answer yet may come through from now on.
        for number, (seat, body) in list(self._open.items()):
            if seat in seats:
                del self._open[number]
                self._silent.discard((seat, body))
        for _room_id, user_id in seats:
            self._unheard.pop(user_id, None)
            self._knocked_out.discard(user_id)

    def _on_send(self, record: Record) -> None:
        seat = record["r"], record["u"]
        if seat in self._out:
            self.judged += 1
            self._open[record["n"]] = seat, record["b"]
            self._silent.add((seat, record["b"]))
        for room_id, user_id in self._out:
            if room_id == record["r"] and user_id != record["u"]:
                self._unheard.setdefault(user_id, set()).add(record["b"])

    def _on_ack(self, record: Record) -> None:
        if record["n"] in self._open:
            seat, body = self._open.pop(record["n"])
            self._found.append(Violation("shut-out-is-silent", f"room {seat[0]} user {seat[1]}: {body!r} got an ack"))

    def _on_refused(self, record: Record) -> None:
        self._open.pop(record["n"], None)

    def _on_knock(self, record: Record) -> None:
        # Those who are blocked may connect.
        if self._is_deaf(record["u"]):
            self._knocked_out.add(record["u"])

    def _on_let_in(self, record: Record) -> None:
        if record["u"] in self._knocked_out:
            self._found.append(Violation("shut-out-is-deaf", f"user {record['u']} connected"))

    def _on_overheard(self, record: Record) -> None:
        if record["b"] in self._unheard.get(record["u"], ()):
            self._found.append(Violation("shut-out-is-deaf", f"user {record['u']} heard {record['b']!r}"))

    def _is_deaf(self, user_id: str) -> bool:
        """Whether they are out alone, as those are who were deactivated."""
        rooms = {room_id for room_id, other in self._out if other == user_id}
        return bool(rooms) and not any(room_id in rooms and other != user_id for room_id, other in self._out)
