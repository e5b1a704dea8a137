"""Tokens of the tests: those of the server, with other claims. The servers under test are given this secret."""

import time
from typing import Any

import jwt

SECRET = "a secret that only the servers of the tests know"


def resigned(token: str, **claims: Any) -> str:
    """The same token with some claims changed, signed anew. A claim of None is left out."""
    changed = jwt.decode(token, options={"verify_signature": False}) | claims
    return jwt.encode({key: value for key, value in changed.items() if value is not None}, SECRET, algorithm="HS256")


def expired(token: str) -> str:
    return resigned(token, iat=int(time.time()) - 7200, exp=int(time.time()) - 3600)


def ending_in(token: str, seconds: float) -> str:
    return resigned(token, exp=time.time() + seconds)


def forged(token: str) -> str:
    """Right claims, wrong signature."""
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, "b" * len(SECRET), algorithm="HS256")


def unsigned(token: str) -> str:
    """Right claims, algorithm `none`."""
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, None, algorithm="none")
