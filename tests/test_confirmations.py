"""Deliveries that one user's connections leave unconfirmed, compared with a model that notes each of them."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from server.models import DELIVERY, Member, Message, Room, now
from server.realtime.confirmations import Confirmations, Span, gaps
from server.room_state import Bounds, RoomState
from server.services.delivery.unconfirmed import Unconfirmed

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


class AllConfirmed:
    """Connections that have confirmed whatever they were sent."""

    def confirmed_upto(self, user_id: str) -> int:
        del user_id
        return 1_000


class RedisIsAway:
    """Pushes that are not written yet."""

    def __init__(self) -> None:
        self.count = 0

    def enqueue(self, user_id: str, payload: bytes, at: datetime) -> "asyncio.Future[None]":
        del user_id, payload, at
        self.count += 1
        return asyncio.get_running_loop().create_future()


async def test_what_is_confirmed_is_let_go_of_while_something_else_waits_for_redis() -> None:
    """Somebody vanishes and is back, and the room talks on: nothing of that may be kept until Redis is back."""
    members = [Member("room", "ann"), Member("room", "bob")]
    room = RoomState(Room("room", "ann", None, now()), members, Bounds(receipts=50, presence=100, offline_queue=100))
    pushes = RedisIsAway()
    unconfirmed = Unconfirmed(AllConfirmed(), pushes)
    for seq in range(1, 11):
        message = Message(f"{seq}", "room", seq, "ann", seq, "x", "TEXT", now())
        room.append(message)
        unconfirmed.add(room, message, seq)
        unconfirmed.note_queued(room, seq)
        if seq == 1:
            unconfirmed.requeue("bob", [Span(0, 1)])
    assert pushes.count == 1
    unconfirmed.advance()
    assert room.cursor(DELIVERY) == 0, "the first is not on the queue yet"
    unconfirmed.requeue("bob", [Span(0, 10)])
    assert pushes.count == 1, "none is remembered"
