"""Rate limits: shared fixed-window counters (logins, registrations, rooms, uploads), and token buckets for the rest."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, Protocol, TypeVar

from server.concurrency.lru_cache import LruCache
from server.config.settings import Limits as LimitSettings
from server.errors import RateLimited, Unauthorized, Unavailable

T = TypeVar("T")

MINUTE: Final = 60.0
HOUR: Final = 3600.0
# Parsing the largest payload takes as long as dozens of small events.
BYTES_PER_TOKEN: Final = 1024
# Buckets beyond this many most recent ones are full again anyway.
MAX_BUCKETS: Final = 100_000
MAX_WINDOWS: Final = 100_000
# Opening a page causes many reads at once.
READ_BURST_FACTOR: Final = 4
# Bytes of an answer that count as one more read; the usual page of history has far fewer.
READ_BYTES: Final = 64 * 1024
# Bytes of text per token, on top of the message's own. No character has more than four bytes.
TEXT_BYTES_PER_TOKEN: Final = 4096
BYTES_PER_CHARACTER: Final = 4
# While a network is over its limit, so many failures lock a known account there: an owner who types the right password
# still gets in, and the accounts of an office cannot all be guessed.
MAX_FAILURES_IN_LIMITED_NETWORK: Final = 1


class LoginKeys(NamedTuple):
    """The keys of the counters of failed logins; `pair` is the account from this network."""

    pair: str
    account: str
    network: str


class FixedWindows(Protocol):
    """Fixed-window counters. Results are the count and the seconds left. Raises `Unavailable` if the store does."""

    async def hit(self, key: str, window: float) -> tuple[int, float]: ...
    async def peek(self, key: str) -> tuple[int, float]: ...
    async def clear(self, key: str) -> None: ...


class LocalCounters:
    """Fixed-window counters in memory, for this process only."""

    def __init__(self) -> None:
        self._windows: LruCache[str, tuple[int, float]] = LruCache(MAX_WINDOWS)

    async def hit(self, key: str, window: float) -> tuple[int, float]:
        count, left = await self.peek(key)
        ends_at = time.monotonic() + (left if count else window)
        self._windows.put(key, (count + 1, ends_at))
        return count + 1, ends_at - time.monotonic()

    async def peek(self, key: str) -> tuple[int, float]:
        count, ends_at = self._windows.get(key) or (0, 0.0)
        left = ends_at - time.monotonic()
        return (count, left) if left > 0 else (0, 0.0)

    async def clear(self, key: str) -> None:
        self._windows.remove(key)


class Buckets:
    """One token bucket per user: `rate` tokens per second, at most `burst`. `name` is the limit's, for errors."""

    def __init__(self, name: str, rate: float, burst: float) -> None:
        self._name = name
        self._rate = rate
        self._burst = burst
        self._buckets: LruCache[str, tuple[float, float]] = LruCache(MAX_BUCKETS)

    def take(self, user_id: str, count: float = 1) -> None:
        """Take `count` tokens, at most `burst`. Raises `RateLimited` if there are fewer; for 0, if some are owed."""
        count = min(count, self._burst)
        moment = time.monotonic()
        tokens = self._left(user_id, moment)
        if tokens < count:
            raise RateLimited(limit=self._name, retry_after=(count - tokens) / self._rate)
        self._keep(user_id, tokens - count, moment)

    def charge(self, user_id: str, count: float) -> None:
        """Take tokens for work already done; the balance may become negative."""
        moment = time.monotonic()
        self._keep(user_id, self._left(user_id, moment) - count, moment)

    def _left(self, user_id: str, moment: float) -> float:
        tokens, at = self._buckets.get(user_id) or (self._burst, moment)
        return min(self._burst, tokens + (moment - at) * self._rate)

    def _keep(self, user_id: str, tokens: float, moment: float) -> None:
        self._buckets.put(user_id, (tokens, moment))


class Limits:
    """All limits are off if `limits.enabled` is false. Sending a message never asks Redis."""

    def __init__(self, settings: LimitSettings, counters: FixedWindows) -> None:
        self._counters = counters
        self._local = LocalCounters()
        self._login_locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self.configure(settings)

    def configure(self, settings: LimitSettings) -> None:
        """From now on these limits apply. What was used of the former ones is forgotten, but for counted windows."""
        self._settings = settings
        self._messages = Buckets("limits.messages", settings.messages, settings.messages_burst)
        self._events = Buckets("limits.events", settings.events, 2 * settings.events)
        self._searches = Buckets("limits.searches", settings.searches, 2 * settings.searches)
        self._reads = Buckets("limits.reads", settings.reads, READ_BURST_FACTOR * settings.reads)
        self._profiles = Buckets(
            "limits.profile_changes_per_minute",
            settings.profile_changes_per_minute / MINUTE,
            settings.profile_changes_per_minute,
        )

    def check_message(self, user_id: str) -> None:
        if self._settings.enabled:
            self._messages.take(user_id)

    def check_length(self, user_id: str, text: str) -> None:
        """Count a long message as several: storing, queueing and sending cost by the byte."""
        more = _text_bytes(text) // TEXT_BYTES_PER_TOKEN
        if more and self._settings.enabled:
            self._messages.take(user_id, more)

    def check_event(self, user_id: str, size: int = 0) -> None:
        """Count one event with a payload of `size` bytes."""
        if self._settings.enabled:
            self._events.take(user_id, 1 + size // BYTES_PER_TOKEN)

    def check_search(self, user_id: str) -> None:
        if self._settings.enabled:
            self._searches.take(user_id)

    def check_read(self, user_id: str, reads: int = 1) -> None:
        """Count reads over REST; 0 only checks that earlier large ones are paid for. Raises `RateLimited`."""
        if self._settings.enabled:
            self._reads.take(user_id, reads)

    def charge_read(self, user_id: str, size: int) -> None:
        """Count a finished read of `size` bytes as several if it was large."""
        if self._settings.enabled:
            self._reads.charge(user_id, size // READ_BYTES)

    def check_profile_change(self, user_id: str) -> None:
        if self._settings.enabled:
            self._profiles.take(user_id)

    async def check_registration(self, network: str) -> None:
        """Count one registration from this network. Raises `RateLimited` when there were too many in an hour."""
        await self._count("registrations", network, "registrations_per_hour", HOUR)

    async def check_new_room(self, user_id: str) -> None:
        """Count one room that this user creates. Raises `RateLimited` when there were too many in an hour."""
        await self._count("new rooms", user_id, "rooms_per_hour", HOUR)

    async def check_upload(self, user_id: str) -> None:
        """Count one upload that this user begins. Raises `RateLimited` when there were too many in a minute."""
        await self._count("uploads", user_id, "uploads_per_minute", MINUTE)

    async def check_export(self, user_id: str) -> None:
        """Count one export of a user's data. Raises `RateLimited` when there were too many in an hour."""
        await self._count("exports", user_id, "exports_per_hour", HOUR)

    @asynccontextmanager
    async def login(self, network: str, email: str, is_known: Callable[[], Awaitable[bool]]) -> AsyncIterator[None]:
        """Encloses one login; `Unauthorized` inside counts as a failure. Raises `RateLimited` after too many.

        Failures are counted per account and network, and in a window of their own per account and per network.
        `is_known` says whether this account has been used from this network before: guesses by others do not lock
        such an owner out. Logins of one account from one network are serialised, so that parallel guesses gain nothing.
        """
        if not self._settings.enabled:
            yield
            return
        keys = LoginKeys(_key("login", network, email), _key("login of", email), _key("login from", network))
        async with self._login_lock(keys.pair):
            failures = await self._check_failures(keys, is_known)
            try:
                yield
            except Unauthorized:
                await self._hit(keys.pair, self._settings.login_window)
                await self._hit(keys.account, self._settings.slow_login_window)
                await self._hit(keys.network, self._settings.slow_login_window)
                raise
            if failures:
                await self._use_counters(lambda counters: counters.clear(keys.pair))

    async def _check_failures(self, keys: LoginKeys, is_known: Callable[[], Awaitable[bool]]) -> int:
        """The number of failures of this account from this network. Raises `RateLimited` if there were too many."""
        failures, left = await self._peek(keys.pair)
        if failures >= self._settings.login_failures:
            raise RateLimited("Too many failed logins", limit="limits.login_failures", retry_after=left)
        account_failures, account_left = await self._peek(keys.account)
        network_failures, network_left = await self._peek(keys.network)
        is_account_limited = account_failures >= self._settings.account_login_failures
        is_network_limited = network_failures >= self._settings.address_login_failures
        if not (is_account_limited or is_network_limited):
            return failures
        if not await is_known():
            slow = max(account_left if is_account_limited else 0.0, network_left if is_network_limited else 0.0)
            used_up = "limits.account_login_failures" if is_account_limited else "limits.address_login_failures"
            raise RateLimited("Too many failed logins", limit=used_up, retry_after=slow)
        if is_network_limited and failures >= MAX_FAILURES_IN_LIMITED_NETWORK:
            raise RateLimited("Too many failed logins", limit="limits.address_login_failures", retry_after=left)
        return failures

    async def _hit(self, key: str, window: float) -> tuple[int, float]:
        return await self._use_counters(lambda counters: counters.hit(key, window))

    async def _peek(self, key: str) -> tuple[int, float]:
        return await self._use_counters(lambda counters: counters.peek(key))

    @asynccontextmanager
    async def _login_lock(self, key: str) -> AsyncIterator[None]:
        lock, waiting = self._login_locks.get(key, (asyncio.Lock(), 0))
        self._login_locks[key] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._login_locks.pop(key)
            if waiting > 1:
                self._login_locks[key] = (lock, waiting - 1)

    async def _count(self, what: str, owner: str, limit: str, window: float) -> None:
        """Count one of `what`. Raises `RateLimited` if that is more than the setting `limit` allows in a window."""
        if not self._settings.enabled:
            return
        key = _key(what, owner)
        count, left = await self._hit(key, window)
        if count > getattr(self._settings, limit):
            raise RateLimited(f"Too many {what}", limit=f"limits.{limit}", retry_after=left)

    async def _use_counters(self, call: Callable[[FixedWindows], Awaitable[T]]) -> T:
        """Use the shared counters, or those of this process while the store is unavailable."""
        try:
            return await call(self._counters)
        except Unavailable:
            return await call(self._local)


def _text_bytes(text: str) -> int:
    """The length in bytes, not exact below one token's worth: encoding takes time."""
    if text.isascii() or len(text) * BYTES_PER_CHARACTER < TEXT_BYTES_PER_TOKEN:
        return len(text)
    return len(text.encode(errors="replace"))


def _key(kind: str, *parts: str) -> str:
    # A digest, because clients choose the parts.
    return f"{kind}:{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"
