"""Parses what clients send into the declared payload types, in one place for both transports."""

import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from server.errors import ValidationFailed

T = TypeVar("T")

# Deeper JSON than this has no place in any payload; the bound keeps the walk below from exhausting the stack.
MAX_DEPTH: Final = 16

# Making a decoder costs more than using it.
_decoder: Final[Callable[[Any], msgspec.json.Decoder[Any]]] = functools.cache(msgspec.json.Decoder)


# The words of JSON for the types that msgspec names; together as in `str | null`.
TYPE_WORDS: Final = {
    "str": "a string",
    "int": "a whole number",
    "float": "a decimal number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
LENGTH: Final = re.compile(r"`(\w+)` of length ([<>])= (\d+)")
BOUND_WORDS: Final = {">": "at least", "<": "at most"}
UNIT_WORDS: Final = {"str": "characters", "array": "items", "object": "entries"}

# What the decoder raises for JSON that it cannot read at all.
JSON_ERRORS: Final = (msgspec.DecodeError, UnicodeError, RecursionError)


def parse_json(data: bytes | str | msgspec.Raw, kind: type[T]) -> T:
    """Decode JSON text into `kind`. Raises `ValidationFailed` naming the field."""
    try:
        # Fields that nobody knows are skipped without a look at their bytes.
        text = data.decode() if isinstance(data, bytes) else data
        value: T = _decoder(kind).decode(text)
    except msgspec.ValidationError as error:
        raise _name_entry(error, text, kind) from None
    except JSON_ERRORS:
        raise explain_bad_json(data if isinstance(data, str) else bytes(data)) from None
    if _has_nul(data):
        _check_strings(msgspec.to_builtins(value), "")
    return value


def parse_arguments(arguments: Mapping[str, bytes], kind: type[T]) -> T:
    """Convert query arguments into `kind`; numbers may be written as text."""
    texts = {name: _decode_argument(name, value) for name, value in arguments.items()}
    try:
        value = msgspec.convert(texts, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _from_validation(error) from None
    _check_strings(texts, "")
    return value


def _decode_argument(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValidationFailed.at(name, "must be valid Unicode") from None


def _has_nul(data: bytes | str | msgspec.Raw) -> bool:
    # Valid JSON can hold U+0000 only as an escape; a false alarm ("\\\\u0000") costs one walk.
    return "\\u0000" in data if isinstance(data, str) else b"\\u0000" in bytes(data)


def explain_bad_json(data: bytes | str, item: int | None = None) -> ValidationFailed:
    """The clearest error for JSON that did not decode: the path of a bad string, else that it is malformed.

    Of a list, only the part under `item` is looked at, and paths begin there.
    """
    try:
        # The stricter decoder names no path for a lone surrogate; the standard one lets it through to be found.
        value = json.loads(data)
        _check_strings(value if item is None else value[item], "")
    except ValidationFailed as found:
        return found
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    return ValidationFailed.at("", "malformed JSON")


def _from_validation(error: msgspec.ValidationError) -> ValidationFailed:
    # msgspec writes "Expected `str`, got `int` - at `$.content`" and "Object missing required field `content`".
    message, at, where = str(error).rpartition(" - at `")
    if not at:
        message, where = where, ""
    # "at `key` in `$.rooms`" for the key of an entry, "at `$.rooms[...]`" for its value.
    path = where.rstrip("`").removeprefix("key` in `").removeprefix("$").removeprefix(".").replace("[...]", "")
    if message.startswith("Object missing required field `"):
        field = message.split("`")[1]
        return ValidationFailed.at(f"{path}.{field}" if path else field, "is required")
    return ValidationFailed.at(path, _in_words(message))


def _name_entry(error: msgspec.ValidationError, text: str | msgspec.Raw, kind: Any) -> ValidationFailed:
    """The error, with the key in its path if it is about one entry of an object with free keys, e.g. `rooms.r1`."""
    found = _from_validation(error)
    if not str(error).endswith("[...]`") and "`key` in `" not in str(error):
        return found
    field = found.errors[0].path
    entry = _decoder(next(one.type for one in msgspec.structs.fields(kind) if one.encode_name == field))
    try:
        entries = msgspec.json.decode(text, type=dict[str, msgspec.Raw])[field]
        for key, value in msgspec.json.decode(entries, type=dict[str, msgspec.Raw]).items():
            try:
                entry.decode(b"{%b:%b}" % (msgspec.json.encode(key), bytes(value)))
            except msgspec.ValidationError:
                return ValidationFailed.at(f"{field}.{key}", found.errors[0].message)
    except JSON_ERRORS:
        # What is wrong with the entry came before what is wrong with the JSON.
        pass
    return found


def _in_words(message: str) -> str:
    """What msgspec says, without the names of Python's types and without the value."""
    if message.startswith("Invalid enum value"):
        return "is not one of the known values"
    message = LENGTH.sub(lambda found: f"`{found[1]}` of {_bound_in_words(*found.groups())}", message)
    message = message.replace(">=", "of at least").replace("<=", "of at most")
    message = re.sub(r"`(\w+(?: \| \w+)*)`", lambda found: _types_in_words(found[1]), message)
    return message[:1].lower() + message[1:]


def _bound_in_words(kind: str, comparison: str, count: str) -> str:
    units = UNIT_WORDS.get(kind, "items")
    return f"{BOUND_WORDS[comparison]} {count} {units.removesuffix('s') if count == '1' else units}"


def _types_in_words(names: str) -> str:
    return " or ".join(TYPE_WORDS.get(name, name) for name in names.split(" | "))


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
