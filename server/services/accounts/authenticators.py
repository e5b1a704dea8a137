"""Authenticators: turn a bearer token into the principal who asks."""

from collections.abc import Sequence
from typing import Protocol

from server.errors import Unauthorized
from server.models import Principal


class Authenticator(Protocol):
    """Knows tokens of one kind."""

    async def authenticate(self, token: str) -> Principal | None:
        """The principal of a token of this kind, None for a token of another kind.

        Raises `TokenExpired`, and `Unauthorized` for a token of this kind that is not valid.
        """


class Authenticators:
    """A chain: the first that knows a token decides."""

    def __init__(self, chain: Sequence[Authenticator]) -> None:
        self._chain = chain

    async def authenticate(self, token: str) -> Principal:
        """The principal of a token. Raises `TokenExpired` or `Unauthorized`."""
        for authenticator in self._chain:
            principal = await authenticator.authenticate(token)
            if principal is not None:
                return principal
        raise Unauthorized
