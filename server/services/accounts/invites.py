"""Invites: signed tokens by which people may make an account while registration is not open."""

import time
from typing import Any, Final

import jwt

from server.errors import ValidationFailed
from server.services.accounts.profile_rules import login_emails
from server.services.accounts.tokens import ALGORITHM, ISSUER

# It keeps invites and access tokens apart: they are signed with the same secret.
AUDIENCE: Final = "invite"


class Invites:
    """An invite may be used by anybody who has it, any number of times until it expires, unless it names an email."""

    def __init__(self, secret: str | bytes) -> None:
        self._secret = secret
        self._jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})

    def issue(self, life: float, email: str = "") -> str:
        """An invite that is good for `life` seconds, for anybody or for one email."""
        claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time() + life)} | ({"email": email} if email else {})
        return self._jwt.encode(claims, self._secret, algorithm=ALGORITHM)

    def check(self, invite: str | None, email: str) -> None:
        """Raise `ValidationFailed` naming `invite` unless it is good for this email."""
        if invite is None:
            raise ValidationFailed.at("invite", "is required: registration is by invite only")
        try:
            claims: dict[str, Any] = self._jwt.decode(
                invite,
                self._secret,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": ["exp", "aud", "iss"]},
            )
        except jwt.ExpiredSignatureError:
            raise ValidationFailed.at("invite", "has expired") from None
        except (jwt.InvalidTokenError, ValueError, TypeError):
            raise ValidationFailed.at("invite", "is not valid") from None
        named = claims.get("email")
        if named is not None and not set(login_emails(email)) & set(login_emails(str(named))):
            raise ValidationFailed.at("invite", "is for another email address")
