"""Rate limits: logins, registrations, rooms and uploads in shared windows; messages and the like in token buckets."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, Protocol, TypeVar

from server.config.settings import Limits as LimitSettings
from server.errors import RateLimited, Unauthorized, Unavailable

T = TypeVar("T")

MINUTE: Final = 60.0
HOUR: Final = 3600.0
# Parsing the largest payload takes as long as dozens of small events, so it counts as so many.
BYTES_OF_TOKEN: Final = 1024
# The bucket of a user who is not among this many most recent ones is full again anyway.
MAX_BUCKETS: Final = 100_000
MAX_WINDOWS: Final = 100_000
# A page that is opened asks for many things at once.
READS_AT_ONCE: Final = 4
# An answer counts as one more read for each so many bytes: the usual page of history has far fewer.
READ_BYTES: Final = 64 * 1024
# Of a message's text, on top of the message's own token. No character has more than four bytes.
TEXT_BYTES_OF_TOKEN: Final = 4096
BYTES_PER_CHARACTER: Final = 4
# Where others of one network guess too often, this many failures keep an account that is known there out for a while:
# enough for whoever types their password right, too little to guess at all the accounts of an office.
MAX_GUESSES_AMONG_NEIGHBOURS: Final = 1


class Guesses(NamedTuple):
    """Under which keys a failed login is counted."""

    of_both: str
    of_account: str
    of_network: str


class FixedWindows(Protocol):
    """Counts in windows of time. `Unavailable` where it is kept elsewhere and that is away."""

    async def hit(self, key: str, window: float) -> tuple[int, float]: ...
    async def peek(self, key: str) -> tuple[int, float]: ...
    async def clear(self, key: str) -> None: ...


class LocalFixedWindows:
    """The same counts in memory, for this process alone."""

    def __init__(self) -> None:
        self._windows: OrderedDict[str, tuple[int, float]] = OrderedDict()

    async def hit(self, key: str, window: float) -> tuple[int, float]:
        count, left = await self.peek(key)
        ends_at = time.monotonic() + (left if count else window)
        self._windows[key] = (count + 1, ends_at)
        if len(self._windows) > MAX_WINDOWS:
            self._windows.popitem(last=False)
        return count + 1, ends_at - time.monotonic()

    async def peek(self, key: str) -> tuple[int, float]:
        count, ends_at = self._windows.get(key, (0, 0.0))
        left = ends_at - time.monotonic()
        return (count, left) if left > 0 else (0, 0.0)

    async def clear(self, key: str) -> None:
        self._windows.pop(key, None)


class Buckets:
    """One token bucket for each user: `rate` per second, at most `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, user_id: str, count: float = 1) -> None:
        """Take so many tokens, or as many as there can be. Raises `RateLimited` where there are fewer; for 0 tokens,
        where some are owed."""
        count = min(count, self._burst)
        moment = time.monotonic()
        tokens = self._left(user_id, moment)
        if tokens < count:
            raise RateLimited(retry_after=(count - tokens) / self._rate)
        self._keep(user_id, tokens - count, moment)

    def charge(self, user_id: str, count: float) -> None:
        """Take tokens for what has been done already; whoever has fewer owes the rest."""
        moment = time.monotonic()
        self._keep(user_id, self._left(user_id, moment) - count, moment)

    def _left(self, user_id: str, moment: float) -> float:
        tokens, at = self._buckets.get(user_id, (self._burst, moment))
        return min(self._burst, tokens + (moment - at) * self._rate)

    def _keep(self, user_id: str, tokens: float, moment: float) -> None:
        self._buckets[user_id] = (tokens, moment)
        self._buckets.move_to_end(user_id)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)


class Limits:
    """All of them are off where `limits.enabled` is false. Redis is never asked on the path of a message."""

    def __init__(self, settings: LimitSettings, counters: FixedWindows) -> None:
        self._settings = settings
        self._counters = counters
        self._local = LocalFixedWindows()
        self._messages = Buckets(settings.messages, settings.messages_burst)
        self._events = Buckets(settings.events, 2 * settings.events)
        self._searches = Buckets(settings.searches, 2 * settings.searches)
        self._reads = Buckets(settings.reads, READS_AT_ONCE * settings.reads)
        self._profiles = Buckets(settings.profile_changes_per_minute / MINUTE, settings.profile_changes_per_minute)
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}

    def check_message(self, user_id: str) -> None:
        if self._settings.enabled:
            self._messages.take(user_id)

    def check_length(self, user_id: str, text: str) -> None:
        """Count a long message as several: bytes are what storing, queueing and sending it cost."""
        more = _text_bytes(text) // TEXT_BYTES_OF_TOKEN
        if more and self._settings.enabled:
            self._messages.take(user_id, more)

    def check_event(self, user_id: str, size: int = 0) -> None:
        """Count one event with a payload of so many bytes."""
        if self._settings.enabled:
            self._events.take(user_id, 1 + size // BYTES_OF_TOKEN)

    def check_search(self, user_id: str) -> None:
        if self._settings.enabled:
            self._searches.take(user_id)

    def check_read(self, user_id: str, reads: int = 1) -> None:
        """Count reads over REST; 0 only looks whether large ones before are paid for. Raises `RateLimited`."""
        if self._settings.enabled:
            self._reads.take(user_id, reads)

    def charge_read(self, user_id: str, size: int) -> None:
        """Count a read of so many bytes, which is known only now, as several where it was large."""
        if self._settings.enabled:
            self._reads.charge(user_id, size // READ_BYTES)

    def check_profile_change(self, user_id: str) -> None:
        if self._settings.enabled:
            self._profiles.take(user_id)

    async def check_registration(self, network: str) -> None:
        """Count one registration from this network. Raises `RateLimited` when there were too many in an hour."""
        await self._count("registrations", network, self._settings.registrations_per_hour, HOUR)

    async def check_new_room(self, user_id: str) -> None:
        """Count one room that this user makes. Raises `RateLimited` when there were too many in an hour."""
        await self._count("new rooms", user_id, self._settings.rooms_per_hour, HOUR)

    async def check_upload(self, user_id: str) -> None:
        """Count one upload that this user begins. Raises `RateLimited` when there were too many in a minute."""
        await self._count("uploads", user_id, self._settings.uploads_per_minute, MINUTE)

    @asynccontextmanager
    async def login(self, network: str, email: str, is_known: Callable[[], Awaitable[bool]]) -> AsyncIterator[None]:
        """Encloses one login; `Unauthorized` inside counts as a failure. Raises `RateLimited` after too many.

        Failures are counted for one account from one network, and more slowly for one account and for one network.
        `is_known` says whether this account has been used from there before: its owner is not kept out by the guesses
        of others. Logins of one account from one network take turns, so that guessing many at once gives no more
        guesses.
        """
        if not self._settings.enabled:
            yield
            return
        guesses = Guesses(_key("login", network, email), _key("login of", email), _key("login from", network))
        async with self._turn(guesses.of_both):
            failures = await self._check_guesses(guesses, is_known)
            try:
                yield
            except Unauthorized:
                await self._hit(guesses.of_both, self._settings.login_window)
                await self._hit(guesses.of_account, self._settings.slow_login_window)
                await self._hit(guesses.of_network, self._settings.slow_login_window)
                raise
            if failures:
                await self._ask(lambda windows: windows.clear(guesses.of_both))

    async def _check_guesses(self, guesses: Guesses, is_known: Callable[[], Awaitable[bool]]) -> int:
        """How many failures there were of this account from this network. Raises `RateLimited` where that is enough."""
        failures, left = await self._peek(guesses.of_both)
        if failures >= self._settings.login_failures:
            raise RateLimited("Too many failed logins", retry_after=left)
        of_account, account_left = await self._peek(guesses.of_account)
        from_network, network_left = await self._peek(guesses.of_network)
        is_guessed_at = of_account >= self._settings.account_login_failures
        is_guessed_from = from_network >= self._settings.address_login_failures
        if not (is_guessed_at or is_guessed_from):
            return failures
        if not await is_known():
            slow = max(account_left if is_guessed_at else 0.0, network_left if is_guessed_from else 0.0)
            raise RateLimited("Too many failed logins", retry_after=slow)
        if is_guessed_from and failures >= MAX_GUESSES_AMONG_NEIGHBOURS:
            raise RateLimited("Too many failed logins", retry_after=left)
        return failures

    async def _hit(self, key: str, window: float) -> tuple[int, float]:
        return await self._ask(lambda windows: windows.hit(key, window))

    async def _peek(self, key: str) -> tuple[int, float]:
        return await self._ask(lambda windows: windows.peek(key))

    @asynccontextmanager
    async def _turn(self, key: str) -> AsyncIterator[None]:
        lock, waiting = self._turns.get(key, (asyncio.Lock(), 0))
        self._turns[key] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._turns.pop(key)
            if waiting > 1:
                self._turns[key] = (lock, waiting - 1)

    async def _count(self, what: str, whose: str, most: int, window: float) -> None:
        if not self._settings.enabled:
            return
        key = _key(what, whose)
        count, left = await self._hit(key, window)
        if count > most:
            raise RateLimited(f"Too many {what}", retry_after=left)

    async def _ask(self, question: Callable[[FixedWindows], Awaitable[T]]) -> T:
        """Ask the shared windows; while they are away the ones of this process. A limit is never an error."""
        try:
            return await question(self._counters)
        except Unavailable:
            return await question(self._local)


def _text_bytes(text: str) -> int:
    """At least below one token's worth it is not exact: counting takes time."""
    if text.isascii() or len(text) * BYTES_PER_CHARACTER < TEXT_BYTES_OF_TOKEN:
        return len(text)
    return len(text.encode(errors="replace"))


def _key(kind: str, *parts: str) -> str:
    # A digest, because the parts are what strangers typed.
    return f"{kind}:{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"
