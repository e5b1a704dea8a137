"""Checks the password of somebody who is logged in, before what cannot be undone."""

from typing import Final

from server.client_network import client_network
from server.errors import FieldError, Forbidden, Unauthorized
from server.models import Principal, User
from server.services.accounts import profile_rules
from server.services.accounts.passwords import Passwords
from server.services.accounts.ports import Limits
from server.storage.mongo.users import Users

WRONG: Final = "The password is wrong"


class PasswordCheck:
    """Wrong guesses count as failed logins do."""

    def __init__(self, users: Users, passwords: Passwords, limits: Limits) -> None:
        self._users = users
        self._passwords = passwords
        self._limits = limits

    async def check(self, principal: Principal, password: str, address: str, path: str) -> tuple[User, str]:
        """The user and the hash of this password.

        Raises `Forbidden` naming `path` if it is wrong, or if another service has the account; `RateLimited` after too
        many wrong ones; and `Unavailable`.
        """
        found = await self._users.find_with_password(principal.user_id)
        if found is None or found[1] is None:
            raise Forbidden("Another service has the account")
        user, known, network = found[0], found[1], client_network(address)
        try:
            async with self._passwords.turn(network) as hashing, self._limits.login(network, user.email_key, _is_known):
                if not await hashing.verify(known, profile_rules.cut_password(password)):
                    raise Unauthorized
        except Unauthorized:
            raise Forbidden(WRONG, errors=[FieldError(path, "is wrong")]) from None
        return user, known


async def _is_known() -> bool:
    """Whoever is logged in is at home here: guesses of others lock nobody out."""
    return True
