"""Cursors of lists: the place of the last entry of a page, as text that clients give back."""

import base64
import binascii
from typing import Any, TypeVar

import msgspec

from server.errors import ValidationFailed

T = TypeVar("T")


def write_cursor(place: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def read_cursor(cursor: str, kind: type[T]) -> T:
    """Raises `ValidationFailed` unless it is the place in a list with such entries."""
    try:
        place: T = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=kind)
    except (binascii.Error, ValueError):
        raise ValidationFailed.at("cursor", "is not one that this list gave out") from None
    return place
