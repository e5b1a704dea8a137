"""The fair queue: round-robin between keys, FIFO within one, bounded, and no slot is lost by a cancel."""

import asyncio
from collections import Counter
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from server.concurrency.fair_queue import FairQueue
from server.errors import ChatError, RateLimited, Unavailable

MOST_PER_KEY = 4
MOST_WAITING = 7
KEYS = "abcd"
# What may happen next: somebody comes; one who works is done, or fails; one who waits or works is cancelled.
STEP = st.one_of(
    st.tuples(st.just("come"), st.sampled_from(KEYS)),
    st.tuples(st.sampled_from(["finish", "fail", "cancel"]), st.integers(0, 20)),
    # Somebody is cancelled just before, or just after, a turn goes to one who waits.
    st.tuples(st.sampled_from(["finish and cancel", "finish, then cancel"]), st.integers(0, 20)),
)


class Visitor:
    """Somebody who takes a turn and works until told to stop."""

    def __init__(self, turns: FairQueue, key: str) -> None:
        self.key = key
        self.state: Literal["waits", "works", "gone"] = "waits"
        self.refusal: ChatError | None = None
        # How often each key was served since this one was the first of its own.
        self.passed_by: Counter[str] | None = None
        self.may_go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._visit(turns))

    async def _visit(self, turns: FairQueue) -> None:
        try:
            async with turns.take(self.key):
                self.state = "works"
                await self.may_go
        except ChatError as error:
            self.refusal = error
        except ValueError:
            """The work failed."""
        finally:
            self.state = "gone"


class Place:
    """Turns, everybody who came, and what is promised of them."""

    def __init__(self, workers: int, most_per_key: int | None = MOST_PER_KEY, last: str = "") -> None:
        self.workers = workers
        self.last = last
        self.turns = FairQueue(
            workers,
            most_per_key=most_per_key,
            most_waiting=MOST_WAITING,
            seconds=3.0,
            is_last=lambda key: key in last,
        )
        self.visitors: list[Visitor] = []
        self.begun: list[Visitor] = []

    def of(self, *states: str, key: str = KEYS) -> list[Visitor]:
        return [visitor for visitor in self.visitors if visitor.state in states and visitor.key in key]

    async def come(self, key: str) -> Visitor:
        visitor = Visitor(self.turns, key)
        self.visitors.append(visitor)
        await self.settle()
        return visitor

    async def finish(self, visitor: Visitor) -> None:
        visitor.may_go.set_result(None)
        await self.settle()

    async def settle(self) -> None:
        """Let everybody go as far as they can."""
        for _ in range(5):
            await asyncio.sleep(0)
        self._note_who_began()
        assert len(self.of("works")) == min(self.workers, len(self.of("works", "waits"))), (
            "no worker is idle or too many"
        )
        assert len(self.of("waits")) <= MOST_WAITING

    def _note_who_began(self) -> None:
        for visitor in [one for one in self.of("works") if one not in self.begun]:
            self.begun.append(visitor)
            earlier = [one for one in self.of("waits", key=visitor.key) if self.is_before(one, visitor)]
            assert not earlier, "first come, first served"
            if visitor.key not in self.last:
                assert all(count <= 1 for count in (visitor.passed_by or {}).values()), "a turn of each other key"
            for other in self.of("waits"):
                if other.key != visitor.key and other.passed_by is not None:
                    other.passed_by[visitor.key] += 1
        for key in KEYS:
            for first in self.of("waits", key=key)[:1]:
                if first.passed_by is None:
                    first.passed_by = Counter()

    def is_before(self, one: Visitor, other: Visitor) -> bool:
        return self.visitors.index(one) < self.visitors.index(other)

    async def empty(self) -> None:
        """Let everybody finish; then all workers are free again."""
        while working := self.of("works"):
            await self.finish(working[0])
        for key in KEYS[: self.workers]:
            assert (await self.come(key)).state == "works", "every place is given back"
        for visitor in self.of("works"):
            await self.finish(visitor)


def test_whatever_happens_turns_are_fair_and_none_is_lost(io_loop: IOLoop) -> None:
    @settings(deadline=None, max_examples=300)
    @given(workers=st.integers(1, 3), steps=st.lists(STEP, max_size=60))
    @example(workers=1, steps=[("come", "a"), ("come", "a"), ("finish and cancel", 1)])
    @example(workers=1, steps=[("come", "a"), ("come", "a"), ("finish, then cancel", 1)])
    @example(workers=1, steps=[*[("come", "a")] * (1 + MOST_PER_KEY), ("cancel", 1), ("come", "a")])
    def check(workers: int, steps: list[tuple[str, str | int]]) -> None:
        io_loop.run_sync(lambda: happen(Place(workers), steps))

    check()


async def happen(place: Place, steps: list[tuple[str, str | int]]) -> None:
    for what, which in steps:
        if isinstance(which, str):
            under_key, in_all = len(place.of("waits", key=which)), len(place.of("waits"))
            visitor = await place.come(which)
            assert isinstance(visitor.refusal, RateLimited) == (under_key >= MOST_PER_KEY)
            assert not isinstance(visitor.refusal, Unavailable) or in_all >= MOST_WAITING
            continue
        working, present = place.of("works"), place.of("waits", "works")
        if "finish" in what and working:
            working[which % len(working)].may_go.set_result(None)
        if "then" in what:
            await asyncio.sleep(0)
        if what == "fail" and working:
            working[which % len(working)].may_go.set_exception(ValueError)
        if "cancel" in what and present:
            present[which % len(present)].task.cancel()
        await place.settle()
    await place.empty()


async def test_a_flood_under_one_key_delays_only_that_key() -> None:
    place = Place(1)
    flood = [await place.come("a") for _ in range(1 + MOST_PER_KEY)]
    other = await place.come("b")
    await place.finish(flood[0])
    await place.finish(flood[1])
    assert (other.state, [one.state for one in flood]) == ("works", ["gone"] * 2 + ["waits"] * 3)
    await place.empty()


async def test_too_many_under_one_key_are_told_when_to_come_again() -> None:
    place = Place(2)
    for _ in range(2 + MOST_PER_KEY):
        assert (await place.come("a")).refusal is None
    refusal = (await place.come("a")).refusal
    assert isinstance(refusal, RateLimited)
    assert refusal.retry_after == pytest.approx(MOST_PER_KEY * 3.0 / 2)
    await place.empty()


async def test_too_many_in_all_cost_the_longest_queue_its_last() -> None:
    place = Place(1, most_per_key=None)
    flood = [await place.come("a") for _ in range(1 + MOST_WAITING)]
    assert isinstance((await place.come("a")).refusal, Unavailable)
    other = await place.come("b")
    assert other.state == "waits"
    assert [isinstance(one.refusal, Unavailable) for one in flood] == [False] * MOST_WAITING + [True]
    more = [await place.come("b") for _ in range(3)]
    assert [isinstance(one.refusal, Unavailable) for one in more] == [False, False, True], "until they are as long"
    await place.empty()


async def test_some_keys_are_served_when_no_other_waits() -> None:
    place = Place(1, last="ab")
    working = await place.come("d")
    for key in "abaccb":
        await place.come(key)
    order = []
    while True:
        await place.finish(working)
        if not place.of("works"):
            break
        (working,) = place.of("works")
        order.append(working.key)
    assert order == ["c", "c", "a", "b", "a", "b"]


async def test_they_are_the_first_to_go_where_too_many_wait() -> None:
    place = Place(1, most_per_key=None, last="ab")
    await place.come("d")
    others = [await place.come("c") for _ in range(MOST_WAITING - 1)]
    last = await place.come("a")
    newcomer = await place.come("d")
    assert (last.state, newcomer.state) == ("gone", "waits")
    assert isinstance(last.refusal, Unavailable)
    assert isinstance((await place.come("b")).refusal, Unavailable), "it sends nobody away"
    assert [one.state for one in others] == ["waits"] * len(others)
    await place.empty()
