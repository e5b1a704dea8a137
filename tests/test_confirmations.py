"""Which deliveries the connections of one person leave unconfirmed, against a model that notes each of them."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from server.confirmations import Confirmations, Span, gaps

ACTIONS = st.lists(
    st.one_of(
        st.just(("come", 0)),
        st.just(("deliver", 0)),
        st.just(("deliver to others", 0)),
        st.tuples(st.just("confirm"), st.integers(0, 3)),
        st.tuples(st.just("end"), st.integers(0, 3)),
    ),
    max_size=60,
)


@dataclass(eq=False)
class Connection:
    since: int
    confirmed: int
    delivered: int
    user_id: str = "ann"
    sent: set[int] = field(default_factory=set)


def numbers(spans: list[Span]) -> list[int]:
    return [number for span in spans for number in range(span.after + 1, span.upto + 1)]


@given(actions=ACTIONS)
def test_a_delivery_is_left_once_when_all_who_were_sent_it_have_ended_and_none_confirmed_it(
    actions: list[tuple[str, int]],
) -> None:
    confirmations = Confirmations()
    connections: list[Connection] = []
    latest = 0
    confirmed: set[int] = set()
    judged: set[int] = set()
    for action, choice in actions:
        chosen = connections[choice % len(connections)] if connections else None
        if action == "come":
            connections.append(Connection(latest, latest, latest))
        elif action == "deliver to others":
            latest += 1
        elif action == "deliver":
            latest += 1
            for connection in connections:
                connection.delivered = latest
                connection.sent.add(latest)
        elif chosen is not None and action == "confirm":
            chosen.confirmed = chosen.delivered
            confirmed |= chosen.sent
        elif chosen is not None:
            connections.remove(chosen)
            still_out = set().union(*(connection.sent for connection in connections))
            left = numbers(confirmations.end(chosen, connections, latest))
            # What nobody was sent, because nobody was connected, is in no room's deliveries.
            assert sorted(chosen.sent - still_out - confirmed - judged) == [
                number for number in left if number in chosen.sent
            ]
            judged |= set(left)
        if connections:
            reached = confirmations.reached(connections, latest)
            out = set().union(*(connection.sent for connection in connections)) - judged - confirmed
            assert all(number > reached for number in out)
            owes = any(connection.delivered > connection.confirmed for connection in connections)
            assert owes or reached == latest


@given(spans=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda pair: Span(*sorted(pair)))))
def test_gaps_are_what_no_span_covers(spans: list[Span]) -> None:
    whole = Span(5, 25)
    covered = set(numbers(spans))
    assert numbers(gaps(whole, spans)) == [number for number in range(6, 26) if number not in covered]
