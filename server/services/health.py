"""Readiness: which of the stores answer, for load balancers."""

import asyncio
from typing import Protocol


class Store(Protocol):
    async def ping(self) -> bool: ...


class Health:
    """Readiness only: a process that answers at all is alive."""

    def __init__(self, mongodb: Store, redis: Store) -> None:
        self._stores = {"mongodb": mongodb, "redis": redis}

    async def find_unavailable(self) -> list[str]:
        """Which of `mongodb` and `redis` do not answer now."""
        answers = await asyncio.gather(*(store.ping() for store in self._stores.values()))
        return [name for name, answered in zip(self._stores, answers, strict=True) if not answered]
