"""Access tokens: signed and verified JSON Web Tokens."""

import time
import uuid
from typing import Any, Final, NamedTuple

import jwt

from server.errors import TokenExpired

ALGORITHM: Final = "HS256"
ISSUER: Final = "madang"


class SessionClaims(NamedTuple):
    """The user and login session of an access token, and its expiry in seconds since 1970."""

    user_id: str
    session_id: str
    expires_at: float


class Tokens:
    """Signs and verifies this server's own access tokens, which live for `access_ttl` seconds."""

    def __init__(self, secret: str | bytes, access_ttl: float) -> None:
        self._secret = secret
        self.access_ttl = access_ttl
        self._jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})
        self.issue("", "")  # a secret that is too short is refused here and not at the first login

    def issue(self, user_id: str, session_id: str) -> str:
        moment = time.time()
        claims = {
            "iss": ISSUER,
            "sub": user_id,
            "sid": session_id,
            "jti": uuid.uuid4().hex,
            "iat": int(moment),
            "exp": round(moment + self.access_ttl, 3),
        }
        return self._jwt.encode(claims, self._secret, algorithm=ALGORITHM)

    def verify(self, token: str) -> SessionClaims | None:
        """What an unexpired token says that this server signed; None if it did not. Raises `TokenExpired`.

        `Accounts.authenticate` checks whether the session has ended.
        """
        try:
            claims: dict[str, Any] = self._jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                # PyJWT cuts `exp` to whole seconds; it is compared below with its fraction.
                options={"require": ["exp", "sub"], "verify_exp": False},
            )
            expires_at = float(claims["exp"])
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError):
            return None
        if not expires_at > time.time():
            raise TokenExpired
        session_id = claims.get("sid")
        if claims.get("iss") != ISSUER or not isinstance(session_id, str):
            return None
        return SessionClaims(user_id=claims["sub"], session_id=session_id, expires_at=expires_at)
