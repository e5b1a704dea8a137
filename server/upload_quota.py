"""How many bytes each user keeps and is sending just now, counted while they send."""

from typing import Protocol

import msgspec

from server.errors import PayloadTooLarge


class Records(Protocol):
    async def usage(self, owner_id: str) -> int: ...


class Account(msgspec.Struct):
    """`stored` is None until it has been asked for."""

    open: int = 0
    arriving: int = 0
    stored: int | None = None


class Quota:
    """One limit for each user's bytes. Uploads of one user at once share it.

    Other processes' uploads count from when they are stored: as many users' uploads as there are processes can
    exceed it by what they send in the same moment.
    """

    def __init__(self, records: Records, limit: int) -> None:
        self._records = records
        self._limit = limit
        self._accounts: dict[str, Account] = {}

    async def enter(self, user_id: str) -> None:
        """Before an upload; `leave` ends it. Raises `PayloadTooLarge` where there is no room, or `Unavailable`."""
        account = self._accounts.setdefault(user_id, Account())
        account.open += 1
        try:
            if account.stored is None:
                stored = await self._records.usage(user_id)
                if account.stored is None:
                    account.stored = stored
            self._check(account, 1)
        except BaseException:
            self.leave(user_id, 0)
            raise

    def reserve(self, user_id: str, count: int) -> None:
        """Count bytes that arrive. Raises `PayloadTooLarge` where they are too many."""
        account = self._accounts[user_id]
        self._check(account, count)
        account.arriving += count

    def add_stored(self, user_id: str, count: int) -> None:
        """Bytes that are stored now."""
        account = self._accounts[user_id]
        account.stored = (account.stored or 0) + count

    def leave(self, user_id: str, count: int) -> None:
        """An upload is over for which `count` bytes had been reserved."""
        account = self._accounts[user_id]
        account.arriving -= count
        account.open -= 1
        if account.open == 0:
            del self._accounts[user_id]

    def _check(self, account: Account, count: int) -> None:
        if (account.stored or 0) + account.arriving + count > self._limit:
            raise PayloadTooLarge(f"All your files together may have at most {self._limit} bytes")
