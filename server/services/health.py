"""Health: which of the stores answer, for whoever decides where people are sent."""

import asyncio
from typing import Protocol


class Store(Protocol):
    async def ping(self) -> bool: ...


class Health:
    """The server itself is alive when it can say anything of this."""

    def __init__(self, mongodb: Store, redis: Store) -> None:
        self._stores = {"mongodb": mongodb, "redis": redis}

    async def find_unavailable(self) -> list[str]:
        """Which of `mongodb` and `redis` do not answer now."""
        answers = await asyncio.gather(*(store.ping() for store in self._stores.values()))
        return [name for name, answered in zip(self._stores, answers, strict=True) if not answered]
