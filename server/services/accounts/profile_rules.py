"""Checks the fields of a profile. Each `check_…` returns the cleaned value or raises `ValidationFailed`."""

import re
import unicodedata
from collections.abc import Collection
from typing import Final

from server.bounds import EMAIL_LENGTH, NAME_LENGTH, PASSWORD_MAX, PASSWORD_MIN, PHONE_LENGTH, URL_LENGTH
from server.errors import ValidationFailed
from server.lookalikes import fold, has_stray_marks, without_invisible
from server.models import PHONE
from server.web_address import is_web_address

# With surrounding blanks and invisible characters.
LOGIN_EMAIL_LENGTH: Final = 4 * EMAIL_LENGTH

EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
UPLOAD_PATH: Final = re.compile(r"/uploads/[A-Za-z0-9._\-]+(/[A-Za-z0-9._\-]+)*")


def check_email(value: str) -> str:
    """The email as it is shown: trimmed, NFC, lower case, without invisible characters."""
    email = without_invisible(_clean_email(value))
    if len(email) > EMAIL_LENGTH:
        raise ValidationFailed.at("email", f"must have at most {EMAIL_LENGTH} characters")
    if not EMAIL.fullmatch(email) or _has_control(email):
        raise ValidationFailed.at("email", "must be an email address")
    return email


def login_emails(value: str) -> list[str]:
    """The keys under which an email given at a login may be stored, the likeliest last; empty if there can be none.

    The first one is for accounts from before emails that look alike counted as one: they keep their own spelling.
    """
    if not 0 < len(value) <= LOGIN_EMAIL_LENGTH:
        return []
    older = _clean_email(value)
    return list(dict.fromkeys([older, fold(older)]))


def check_new_password(value: str, path: str = "password") -> str:
    if not PASSWORD_MIN <= len(value) <= PASSWORD_MAX:
        raise ValidationFailed.at(path, f"must have {PASSWORD_MIN} to {PASSWORD_MAX} characters")
    return value


def cut_password(value: str) -> str:
    """An overlong password is cut, so that it costs no more than the longest valid one, and fits none."""
    return value[: PASSWORD_MAX + 1]


def check_name(path: str, value: str) -> str:
    name = unicodedata.normalize("NFC", value).strip()
    if not name or not any(character.isprintable() and not character.isspace() for character in name):
        raise ValidationFailed.at(path, "must not be blank")
    if len(name) > NAME_LENGTH:
        raise ValidationFailed.at(path, f"must have at most {NAME_LENGTH} characters")
    if _has_control(name):
        raise ValidationFailed.at(path, "must not contain control characters")
    if has_stray_marks(name):
        raise ValidationFailed.at(path, "must not contain invisible characters or marks of direction")
    return name


def check_phone(value: str | None) -> str | None:
    """A blank phone becomes None."""
    if value is None or not value.strip():
        return None
    phone = value.strip()
    if len(phone) > PHONE_LENGTH or not PHONE.fullmatch(phone):
        raise ValidationFailed.at("phone", f"must be a phone number of at most {PHONE_LENGTH} characters")
    return phone


def check_user_type(value: str | None, allowed: Collection[str]) -> str | None:
    """One of `allowed`, in any case; the spelling is kept. A blank type becomes None."""
    if value is None or not value.strip():
        return None
    user_type = value.strip()
    if user_type.lower() not in {name.lower() for name in allowed}:
        raise ValidationFailed.at("userType", f"must be one of {', '.join(allowed)}" if allowed else "must be left out")
    return user_type


def check_profile_image(value: str | None) -> str | None:
    """A web address or the path of an upload. A blank one becomes None."""
    if value is None or not value.strip():
        return None
    url = value.strip()
    if len(url) > URL_LENGTH:
        raise ValidationFailed.at("profileImage", f"must have at most {URL_LENGTH} characters")
    if not (is_upload_path(url) or is_web_address(url)):
        raise ValidationFailed.at("profileImage", "must be an http(s) URL or the path of an upload")
    return url


def check_first_profile_image(value: str | None) -> str | None:
    """The same for a registration: a new user cannot have uploaded anything yet."""
    url = check_profile_image(value)
    if url is not None and is_upload_path(url):
        raise ValidationFailed.at("profileImage", "must be an http(s) URL; an upload can be named once you are here")
    return url


def is_upload_path(url: str) -> bool:
    return UPLOAD_PATH.fullmatch(url) is not None and ".." not in url


def _clean_email(value: str) -> str:
    return unicodedata.normalize("NFC", value).strip().lower()


def _has_control(value: str) -> bool:
    return any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in value)
