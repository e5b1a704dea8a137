"""Tracks which live deliveries the connections of each user have confirmed, as spans of delivery numbers."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

# Spans kept of ended connections while others of the same user are open. A dropped span only repeats messages.
MOST_SPANS: Final = 16


class Span(NamedTuple):
    """The deliveries with `after < number <= upto`."""

    after: int
    upto: int


class Confirming(Protocol):
    """A connection. It was sent its user's deliveries above `since`, the last of them with the number `delivered`, and
    has confirmed them up to `confirmed`.
    """

    since: int
    delivered: int
    confirmed: int

    @property
    def user_id(self) -> str: ...


class Confirmations:
    """Finds deliveries that stay unconfirmed: every connection that was sent them has ended without confirming."""

    def __init__(self) -> None:
        self._ended: dict[str, list[Span]] = {}

    def reached(self, connections: Sequence[Confirming], latest: int) -> int:
        """The number up to which the user of these open connections has confirmed everything."""
        first = connections[0]
        if len(connections) == 1 and first.user_id not in self._ended:
            return _confirmed(first, latest).upto
        position = min(connection.since for connection in connections)
        for span in sorted(self._spans(first.user_id, connections, latest)):
            if span.after > position:
                break
            position = max(position, span.upto)
        return position

    def end(self, ended: Confirming, others: Sequence[Confirming], latest: int) -> list[Span]:
        """The spans that stay unconfirmed as `ended` ends; `others` are the open connections of its user."""
        connections = [ended, *others]
        spans = self._spans(ended.user_id, connections, latest)
        lowest = min(connection.since for connection in connections)
        # The others were sent everything above this and may still confirm it.
        highest = min((other.since for other in others), default=latest)
        if others:
            kept = self._ended.setdefault(ended.user_id, [])
            kept.append(_confirmed(ended, latest))
            kept[:] = [span for span in kept if span.upto > highest][-MOST_SPANS:]
            if not kept:
                del self._ended[ended.user_id]
        else:
            self._ended.pop(ended.user_id, None)
        return gaps(Span(lowest, highest), spans)

    def _spans(self, user_id: str, connections: Iterable[Confirming], latest: int) -> list[Span]:
        return [_confirmed(connection, latest) for connection in connections] + self._ended.get(user_id, [])


def _confirmed(connection: Confirming, latest: int) -> Span:
    owes = connection.delivered > connection.confirmed
    return Span(connection.since, connection.confirmed if owes else latest)


def gaps(whole: Span, spans: Iterable[Span]) -> list[Span]:
    """The parts of `whole` that no span covers, ascending."""
    found = []
    position = whole.after
    for span in sorted(spans):
        if span.after >= whole.upto:
            break
        if span.after > position:
            found.append(Span(position, span.after))
        position = max(position, span.upto)
    if position < whole.upto:
        found.append(Span(position, whole.upto))
    return found
