"""Group commit for small writes: collects items while the previous batch is being written."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextvars import Context
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """Passes items to `write` in the order of `add`, at most `max_batch` per call, one call at a time."""

    def __init__(self, write: Callable[[Sequence[T]], Awaitable[None]], *, max_batch: int) -> None:
        self._write = write
        self._max_batch = max_batch
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, item: T) -> "asyncio.Future[None]":
        """Queue an item. The future ends when its batch is written, and raises what `write` raised for that batch."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._task is None:
            # An empty context: one batch serves many requests.
            self._task = asyncio.get_running_loop().create_task(self._drain(), context=Context())
        return done

    async def wait_empty(self) -> None:
        """Return when every added item is written or has failed."""
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
    """Split the items, in order, into slices of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))
