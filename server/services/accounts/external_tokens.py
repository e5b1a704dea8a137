"""Authenticates tokens that another service signs, and makes a user of whoever comes for the first time."""

import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import jwt

from server.config.settings import Auth
from server.errors import Conflict, TokenExpired, Unauthorized
from server.models import Principal, User
from server.services.accounts.claims import read_scopes, read_user, read_user_id
from server.services.accounts.profiles import Profiles
from server.services.accounts.signing_keys import SigningKeys

log = logging.getLogger(__name__)


class ExternalTokens:
    """Algorithms are pinned by the settings; of a token's header only `alg` and `kid` are read, to find a key here.

    `is_shared`: this server has accounts of its own beside, and no token from elsewhere speaks for one of these.
    """

    def __init__(self, settings: Auth, keys: Sequence[SigningKeys], profiles: Profiles) -> None:
        self._is_shared = settings.mode == "both"
        self.configure(settings, keys)
        self._profiles = profiles
        self._jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})

    def configure(self, settings: Auth, keys: Sequence[SigningKeys]) -> None:
        """From now on these keys and rules apply. Open sockets go on under the tokens that they came with."""
        self._settings = settings.external
        self._keys = keys

    async def authenticate(self, token: str) -> Principal | None:
        """The principal of a token, None if it is not signed by the other service.

        Raises `TokenExpired`; `Unauthorized` for another issuer or audience, and for an inactive user; and
        `Unavailable` if keys or users cannot be read.
        """
        claims = await self._verify(token)
        if claims is None:
            return None
        user_id, expires_at = read_user_id(claims), _read_expiry(claims)
        if user_id is None or expires_at is None:
            raise Unauthorized
        if expires_at <= time.time():
            raise TokenExpired
        user = self._profiles.cached(user_id) or await self._find_or_make(user_id, claims)
        if not user.is_active or (self._is_shared and not user.is_external):
            raise Unauthorized
        granted = read_scopes(claims, self._settings.claims.scope)
        return Principal(user_id, None, expires_at, granted=granted)

    async def _verify(self, token: str) -> dict[str, Any] | None:
        """The claims of a token with a good signature; None if it has none. Times are checked but for `exp`."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            return None
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self._settings.algorithms or not isinstance(key_id, str | None):
            return None
        for source in self._keys:
            for key in await source.find(algorithm, key_id):
                try:
                    claims: dict[str, Any] = self._jwt.decode(
                        token,
                        key,
                        algorithms=[algorithm],
                        issuer=self._settings.issuer or None,
                        audience=self._settings.audience or None,
                        leeway=self._settings.leeway,
                        options={
                            "require": ["exp", "sub"],
                            "verify_aud": bool(self._settings.audience),
                            # PyJWT gives it the leeway too.
                            "verify_exp": False,
                        },
                    )
                except jwt.InvalidSignatureError:
                    continue
                except (jwt.InvalidKeyError, TypeError):
                    # A key of another kind than the algorithm.
                    continue
                except (jwt.InvalidTokenError, ValueError, OverflowError) as error:
                    log.debug("token refused error=%s", error)
                    raise Unauthorized from None
                return claims
        return None

    async def _find_or_make(self, user_id: str, claims: dict[str, Any]) -> User:
        user = (await self._profiles.get_many([user_id])).get(user_id)
        if user is not None:
            return user
        made = read_user(user_id, claims, self._settings.claims)
        try:
            await self._profiles.create(made, None)
        except Conflict:
            # Another request of the same user was first.
            found = (await self._profiles.get_many([user_id])).get(user_id)
            if found is None:
                raise
            return found
        log.info("user made from a token user=%s", user_id)
        return made


def _read_expiry(claims: dict[str, Any]) -> float | None:
    """In seconds since 1970; None if it says nothing, as infinity does."""
    value = claims["exp"]
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)
