"""Reads people from the claims of a token. What is missing or of no use is left out: it keeps nobody from coming in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from server.bounds import NAME_LENGTH, USER_TYPE_LENGTH
from server.config.settings import Claims
from server.errors import ValidationFailed
from server.models import User, now
from server.requests import ID_LENGTH
from server.services.accounts import profile_rules

# Ids that mean something else in a path.
RESERVED_IDS: Final = frozenset({"me", "search", "blocked", "presence"})
UNNAMED: Final = "User"
# What OpenID providers say of people whose first name they do not know.
OTHER_NAMES: Final = ("name", "nickname", "preferred_username")

T = TypeVar("T")


def read_user_id(claims: Mapping[str, Any]) -> str | None:
    """`sub` as it is; None if it cannot be the id of a user."""
    user_id = claims.get("sub")
    if not isinstance(user_id, str) or not 0 < len(user_id) <= ID_LENGTH or user_id in RESERVED_IDS:
        return None
    return user_id if user_id.isprintable() and not user_id.isspace() else None


def read_scopes(claims: Mapping[str, Any], names: Sequence[str]) -> frozenset[str]:
    """A text with blanks (RFC 8693), or a list."""
    value = _find(claims, names)
    items = value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
    return frozenset(item for item in items if isinstance(item, str))


def read_user(user_id: str, claims: Mapping[str, Any], names: Claims) -> User:
    """A new user of another service's account."""

    def text(keys: Sequence[str], check: Callable[[str], T]) -> T | None:
        value = _find(claims, keys)
        try:
            return check(value) if isinstance(value, str) and value.strip() else None
        except ValidationFailed:
            return None

    def name(keys: Sequence[str]) -> str | None:
        return text(keys, lambda value: profile_rules.check_name("", value[:NAME_LENGTH]))

    email = text(names.email, profile_rules.check_email) or ""
    first, last = name(names.first_name), name(names.last_name)
    score = _find(claims, names.trust_score)
    return User(
        id=user_id,
        email=email,
        first_name=first or ("" if last else name(OTHER_NAMES) or email.partition("@")[0] or UNNAMED),
        last_name=last or "",
        phone=text(names.phone, profile_rules.check_phone),
        profile_image=text(names.profile_image, profile_rules.check_first_profile_image),
        user_type=text(names.user_type, lambda value: value.strip()[:USER_TYPE_LENGTH]),
        trust_score=float(score) if isinstance(score, int | float) and not isinstance(score, bool) else None,
        created_at=now(),
        is_external=True,
    )


def _find(claims: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first of these claims that there is; a dot leads into an object, unless there is a claim of that name."""
    for name in names:
        value: Any = claims
        for part in (name,) if name in claims else name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None
