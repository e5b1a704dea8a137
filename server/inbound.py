"""Parses client input into the declared payload types, for both transports."""

from collections.abc import Mapping
from itertools import islice
from typing import Any, TypeVar

import msgspec

from server.errors import ValidationFailed
from server.explain import (
    JSON_ERRORS,
    MAX_NAMED,
    decoder_of,
    explain_arguments,
    explain_bad_json,
    explain_json,
    wrong_strings,
)

T = TypeVar("T")


def parse_json(data: bytes | str | msgspec.Raw, kind: type[T], fixed: Mapping[str, str] | None = None) -> T:
    """Decode JSON text into the struct `kind`. Raises `ValidationFailed` naming every wrong field.

    `fixed` holds fields (wire names) that override those of the text.
    """
    try:
        # Decoded here: msgspec does not check the UTF-8 of unknown fields.
        text = data.decode() if isinstance(data, bytes) else data
        if fixed:
            text = msgspec.json.encode({**decoder_of(dict[str, msgspec.Raw]).decode(text), **fixed}).decode()
        value: T = decoder_of(kind).decode(text)
    except msgspec.ValidationError:
        raise explain_json(text, kind) from None
    except JSON_ERRORS:
        raise explain_bad_json(data if isinstance(data, str) else bytes(data)) from None
    if _has_nul(text):
        _check_strings(msgspec.to_builtins(value))
    return value


def parse_arguments(arguments: Mapping[str, bytes], kind: type[T]) -> T:
    """Convert query arguments into `kind`; numbers may be written as text."""
    texts = {name: _decode_argument(name, value) for name, value in arguments.items()}
    try:
        value = msgspec.convert(texts, kind, strict=False)
    except msgspec.ValidationError:
        raise explain_arguments(texts, kind) from None
    _check_strings(texts)
    return value


def _decode_argument(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValidationFailed.at(name, "must be valid Unicode") from None


def _has_nul(text: str | msgspec.Raw) -> bool:
    # Valid JSON can hold U+0000 only as an escape; a false positive ("\\\\u0000") costs one walk.
    return "\\u0000" in text if isinstance(text, str) else b"\\u0000" in bytes(text)


def _check_strings(value: Any) -> None:
    wrong = list(islice(wrong_strings(value), MAX_NAMED))
    if wrong:
        raise ValidationFailed.all(wrong)
