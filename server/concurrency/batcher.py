"""Group commit for small writes: while one batch is written, the next one gathers; and items in groups."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextvars import Context
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """Hands items in the order of `add` to `write`, many at once, one batch at a time."""

    def __init__(self, write: Callable[[Sequence[T]], Awaitable[None]], *, max_batch: int) -> None:
        self._write = write
        self._max_batch = max_batch
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, item: T) -> "asyncio.Future[None]":
        """Ends once the item's batch is written; raises what `write` raised for that batch."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._task is None:
            # In no request's context: others' items follow.
            self._task = asyncio.get_running_loop().create_task(self._drain(), context=Context())
        return done

    async def wait_empty(self) -> None:
        """Return once everything that was added is written or has failed."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[: self._max_batch]
                del self._waiting[: self._max_batch]
                try:
                    await self._write([item for item, _ in batch])
                except Exception as error:
                    for _, done in batch:
                        if not done.done():
                            done.set_exception(error)
                else:
                    for _, done in batch:
                        if not done.done():
                            done.set_result(None)
        finally:
            self._task = None


def in_groups(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """All items in their order, so many at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))
