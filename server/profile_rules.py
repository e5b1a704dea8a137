"""What the fields of a profile may hold. Each function returns the cleaned value or raises `ValidationFailed`."""

import re
import unicodedata
from typing import Final

from server.errors import ValidationFailed
from server.web_address import is_web_address

EMAIL_LENGTH: Final = 254  # RFC 5321
NAME_LENGTH: Final = 100
PHONE_LENGTH: Final = 32
USER_TYPE_LENGTH: Final = 50
URL_LENGTH: Final = 2_048
PASSWORD_MIN: Final = 8
# Longer ones would only cost time.
PASSWORD_MAX: Final = 1_024

PHONE: Final = re.compile(r"[0-9+()\-. ]*[0-9][0-9+()\-. ]*")
EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
UPLOAD_PATH: Final = re.compile(r"/uploads/[A-Za-z0-9._\-]+(/[A-Za-z0-9._\-]+)*")


def check_email(value: str) -> str:
    """The email as it is stored and looked up: trimmed, NFC, lower case."""
    email = _clean_email(value)
    if len(email) > EMAIL_LENGTH:
        raise ValidationFailed.at("email", f"must have at most {EMAIL_LENGTH} characters")
    if not EMAIL.fullmatch(email) or _has_control(email):
        raise ValidationFailed.at("email", "must be an email address")
    return email


def login_email(value: str) -> str | None:
    """The stored spelling of an email typed at a login; None for what no account can have."""
    try:
        return check_email(value)
    except ValidationFailed:
        return None


def check_new_password(value: str) -> str:
    if not PASSWORD_MIN <= len(value) <= PASSWORD_MAX:
        raise ValidationFailed.at("password", f"must have {PASSWORD_MIN} to {PASSWORD_MAX} characters")
    return value


def check_name(path: str, value: str) -> str:
    name = unicodedata.normalize("NFC", value).strip()
    if not name or not any(character.isprintable() and not character.isspace() for character in name):
        raise ValidationFailed.at(path, "must not be blank")
    if len(name) > NAME_LENGTH:
        raise ValidationFailed.at(path, f"must have at most {NAME_LENGTH} characters")
    if _has_control(name):
        raise ValidationFailed.at(path, "must not contain control characters")
    return name


def check_phone(value: str | None) -> str | None:
    """A blank phone is none."""
    if value is None or not value.strip():
        return None
    phone = value.strip()
    if len(phone) > PHONE_LENGTH or not PHONE.fullmatch(phone):
        raise ValidationFailed.at("phone", f"must be a phone number of at most {PHONE_LENGTH} characters")
    return phone


def check_user_type(value: str | None) -> str | None:
    """A blank type is none."""
    if value is None or not value.strip():
        return None
    user_type = value.strip()
    if len(user_type) > USER_TYPE_LENGTH or _has_control(user_type):
        raise ValidationFailed.at("userType", f"must have at most {USER_TYPE_LENGTH} plain characters")
    return user_type


def check_profile_image(value: str | None) -> str | None:
    """A blank picture is none; otherwise a web address or the path of an upload."""
    if value is None or not value.strip():
        return None
    url = value.strip()
    if len(url) > URL_LENGTH:
        raise ValidationFailed.at("profileImage", f"must have at most {URL_LENGTH} characters")
    if not (is_upload_path(url) or is_web_address(url)):
        raise ValidationFailed.at("profileImage", "must be an http(s) URL or the path of an upload")
    return url


def check_first_profile_image(value: str | None) -> str | None:
    """The same for somebody new, who cannot have uploaded anything yet."""
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
