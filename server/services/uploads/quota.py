"""Upload quotas: the stored and arriving bytes of each user, counted while they arrive."""

import asyncio
import time
from typing import Final

from server.errors import PayloadTooLarge
from server.storage.mongo.upload_records import UploadRecords

# Adding up a user's files takes the embedded store 0.1 ms for each, so the sum is cached for this many seconds.
# Removals and the uploads of other processes count only after that.
STORED_AGE: Final = 120.0
MAX_ACCOUNTS: Final = 10_000


class Account:
    """`open` uploads have sent `arriving` bytes. `stored` is None until it has been queried, at `asked_at`."""

    def __init__(self) -> None:
        self.open = 0
        self.arriving = 0
        self.stored: int | None = None
        self.asked_at = 0.0
        self.lock = asyncio.Lock()


class Quota:
    """One limit for the bytes of each user, shared by their concurrent uploads."""

    def __init__(self, records: UploadRecords, limit: int) -> None:
        self._records = records
        self._limit = limit
        self._accounts: dict[str, Account] = {}

    async def enter(self, user_id: str) -> None:
        """Call before an upload; `leave` ends it. Raises `PayloadTooLarge` if there is no room, or `Unavailable`."""
        account = self._accounts.setdefault(user_id, Account())
        account.open += 1
        try:
            async with account.lock:
                is_old = time.monotonic() - account.asked_at > STORED_AGE
                # Not during other uploads: the sum may or may not include them.
                if account.stored is None or (is_old and account.open == 1):
                    account.stored = await self._records.usage(user_id)
                    account.asked_at = time.monotonic()
            self._check(account, 1)
        except BaseException:
            self.leave(user_id, 0)
            raise

    def reserve(self, user_id: str, count: int) -> None:
        """Count arriving bytes. Raises `PayloadTooLarge` if they exceed the limit."""
        account = self._accounts[user_id]
        self._check(account, count)
        account.arriving += count

    def add_stored(self, user_id: str, count: int) -> None:
        """Count bytes that are now stored."""
        account = self._accounts[user_id]
        account.stored = (account.stored or 0) + count

    def leave(self, user_id: str, count: int) -> None:
        """End an upload for which `count` bytes had been reserved."""
        account = self._accounts[user_id]
        account.arriving -= count
        account.open -= 1
        if account.open == 0 and (account.stored is None or len(self._accounts) > MAX_ACCOUNTS):
            del self._accounts[user_id]

    def _check(self, account: Account, count: int) -> None:
        if (account.stored or 0) + account.arriving + count > self._limit:
            raise PayloadTooLarge.over("All your files together", self._limit)
