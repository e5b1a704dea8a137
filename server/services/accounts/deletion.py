"""Deletes accounts: at once for everybody who looks, then part by part what belonged to them."""

from collections.abc import Awaitable, Callable
from typing import Final

from server.concurrency.tasks import Tasks
from server.models import Principal
from server.services.accounts.live_sessions import LiveSessions
from server.services.accounts.password_check import PasswordCheck
from server.services.accounts.profiles import DELETED_PROFILE, Profiles
from server.storage.mongo.users import Users

EndUser = Callable[[str], Awaitable[None]]
MOST_RESUMED: Final = 100


class AccountDeletion:
    """A deletion is written down first, so that `resume` finishes it after a crash.

    `end_user(user_id)` disconnects the sockets of a user, and `leave(user_id)` removes what other subjects have of one.
    """

    def __init__(
        self,
        users: Users,
        profiles: Profiles,
        passwords: PasswordCheck,
        live: LiveSessions,
        end_user: EndUser,
        leave: EndUser,
    ) -> None:
        self._users = users
        self._profiles = profiles
        self._passwords = passwords
        self._live = live
        self._end_user = end_user
        self._leave = leave
        self._tasks = Tasks()
        self._leaving: set[str] = set()

    async def delete(self, principal: Principal, password: str, address: str) -> None:
        """Delete the caller's account. Returns once nobody can log in to it and its profile is empty.

        Memberships go in the background. Raises as `PasswordCheck.check`, naming `password`.
        """
        user, _ = await self._passwords.check(principal, password, address, "password")
        await self._users.begin_deletion(user.id)
        await self._close(user.id)
        self._tasks.run(self._finish(user.id))

    async def resume(self) -> None:
        """Finish deletions that a crash or an outage has interrupted. Raises `Unavailable`."""
        for user_id in await self._users.find_deleted(MOST_RESUMED):
            if user_id not in self._leaving:
                await self._close(user_id)
                await self._finish(user_id)

    async def _close(self, user_id: str) -> None:
        await self._profiles.replace(user_id, DELETED_PROFILE)
        await self._live.end_all(user_id)
        await self._end_user(user_id)

    async def _finish(self, user_id: str) -> None:
        self._leaving.add(user_id)
        try:
            await self._leave(user_id)
            await self._users.end_deletion(user_id)
        finally:
            self._leaving.discard(user_id)
