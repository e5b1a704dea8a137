"""Parses what clients send into the declared payload types, in one place for both transports."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from server.errors import ChatError, ValidationFailed

T = TypeVar("T")

# Deeper JSON than this has no place in any payload; the bound keeps the walk below from exhausting the stack.
MAX_DEPTH: Final = 16

# Making a decoder costs more than using it.
_decoder: Final[Callable[[Any], msgspec.json.Decoder[Any]]] = functools.cache(msgspec.json.Decoder)


def parse_json(data: bytes | str | msgspec.Raw, kind: type[T]) -> T:
    """Decode JSON text into `kind`. Raises `ValidationFailed` naming the field."""
    try:
        value: T = _decoder(kind).decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _explain(data, error) from None
    if _has_nul(data):
        _check_strings(msgspec.to_builtins(value), "")
    return value


def parse_arguments(arguments: Mapping[str, str], kind: type[T]) -> T:
    """Convert query arguments into `kind`; numbers may be written as text."""
    try:
        value = msgspec.convert(arguments, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _from_validation(error) from None
    _check_strings(dict(arguments), "")
    return value


def _has_nul(data: bytes | str | msgspec.Raw) -> bool:
    # Valid JSON can hold U+0000 only as an escape; a false alarm ("\\\\u0000") costs one walk.
    return ("\\u0000" in data) if isinstance(data, str) else (b"\\u0000" in bytes(data))


def _explain(data: bytes | str | msgspec.Raw, error: Exception) -> ChatError:
    """The clearest error for JSON that did not decode: a bad field by its path, else malformed JSON."""
    if isinstance(error, msgspec.ValidationError):
        return _from_validation(error)
    text = data if isinstance(data, str) else bytes(data)
    try:
        # The stricter decoder names no path for a lone surrogate; the standard one lets it through to be found.
        _check_strings(json.loads(text), "")
    except ChatError as found:
        return found
    except (ValueError, RecursionError):
        pass
    return ValidationFailed.at("", "malformed JSON")


def _from_validation(error: msgspec.ValidationError) -> ValidationFailed:
    # msgspec writes "Expected `str`, got `int` - at `$.content`" and "Object missing required field `content`".
    message, _, where = str(error).partition(" - at `")
    path = where.rstrip("`").removeprefix("$").removeprefix(".").replace("[...]", "")
    if message.startswith("Object missing required field `"):
        field = message.split("`")[1]
        return ValidationFailed.at(f"{path}.{field}" if path else field, "is required")
    return ValidationFailed.at(path, message[:1].lower() + message[1:])


def _check_strings(value: Any, path: str, depth: int = 0) -> None:
    """Raise `ValidationFailed` where a string holds NUL or half of a surrogate pair."""
    if depth > MAX_DEPTH:
        raise ValidationFailed.at(path, "is nested too deeply")
    if isinstance(value, str):
        if "\x00" in value:
            raise ValidationFailed.at(path, "must not contain NUL")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise ValidationFailed.at(path, "must be valid Unicode")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_strings(key, path, depth + 1)
            _check_strings(item, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_strings(item, f"{path}[{index}]", depth + 1)
