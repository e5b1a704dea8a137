"""Password hashes (argon2id), computed in threads with a fair queue between client addresses."""

import asyncio
import unicodedata
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from server.concurrency.fair_queue import FairQueue

# OWASP's first choice for argon2id; about 25 ms of one core.
MEMORY_KIB: Final = 19 * 1024
TIME_COST: Final = 2
PARALLELISM: Final = 1
# Hashing must not take every core from the event loop.
HASHING_THREADS: Final = 2
HASHING_SECONDS: Final = 0.025
# A large office that logs in at once; the last one waits for six seconds.
MAX_WAITING_PER_ADDRESS: Final = 500
# About half a minute of work.
MAX_WAITING: Final = 2_000


class Passwords:
    """Argon2id in dedicated threads; client addresses are served in rotation."""

    def __init__(self, *, is_limited: bool) -> None:
        self._hashing = Hashing(HASHING_THREADS)
        self._queue = FairQueue(
            HASHING_THREADS,
            most_per_key=MAX_WAITING_PER_ADDRESS if is_limited else None,
            most_waiting=MAX_WAITING,
            seconds=HASHING_SECONDS,
        )

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator["Hashing"]:
        """Run the body of `async with`, which handles one password, when it is this address's turn.

        Raises `RateLimited` if too many wait under one address and `is_limited` is true, `Unavailable` if too many
        wait in all.
        """
        async with self._queue.take(address):
            yield self._hashing

    def is_outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than the current ones."""
        return self._hashing.hasher.check_needs_rehash(password_hash)

    def close(self) -> None:
        self._hashing.close()


class Hashing:
    """Hashes and verifies off the event loop, within a turn of `Passwords`."""

    def __init__(self, threads: int) -> None:
        self.hasher = PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._dummy_hash = self.hasher.hash(uuid.uuid4().hex)

    async def hash(self, password: str) -> str:
        return str(await self._run(self.hasher.hash, _normalised(password)))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password matches. Without a hash (an unknown account) it is False and takes the same time."""
        fits = await self._run(self._fits, password_hash or self._dummy_hash, _normalised(password))
        return bool(fits) and password_hash is not None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fits(self, password_hash: str, password: str) -> bool:
        try:
            return self.hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, function: Any, *arguments: str | bytes) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _normalised(password: str) -> bytes:
    # The same password typed on two systems may arrive composed or decomposed.
    return unicodedata.normalize("NFC", password).encode()
