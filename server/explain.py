"""Explains input that does not fit its type: names every wrong field in plain words, at a bounded cost."""

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import msgspec

from server.errors import FieldError, ValidationFailed

# In one answer; the rest is named when these are corrected.
MAX_NAMED: Final = 50
# JSON that does not decode is searched for bad strings up to this length and number of values. That finds a long
# message whose last emoji was cut in half, and bounds the cost of hostile input.
MAX_SEARCHED_LENGTH: Final = 64 * 1024
MAX_SEARCHED: Final = 500
# The beginning of an escaped half of a surrogate pair.
SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
# No valid payload is nested deeper; the bound keeps the walk below small.
MAX_DEPTH: Final = 16

# Raised by the decoder for malformed JSON.
JSON_ERRORS: Final = (msgspec.DecodeError, UnicodeError, RecursionError)

# JSON words for the types that msgspec names, which it combines as in `str | null`.
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

# Making a decoder costs more than using it.
decoder_of: Final[Callable[[Any], msgspec.json.Decoder[Any]]] = functools.cache(msgspec.json.Decoder)
_type_info: Final[Callable[[Any], msgspec.inspect.Type]] = functools.cache(msgspec.inspect.type_info)

CONTAINERS: Final = {
    msgspec.inspect.DictType: dict[str, msgspec.Raw],
    msgspec.inspect.ListType: list[msgspec.Raw],
}
Text = str | bytes | msgspec.Raw
# After the last value of a container.
_END: Final = (None, None)
# Path and JSON text of one part of a container.
Entry = tuple[str, bytes]


def explain_json(text: Text, kind: type) -> ValidationFailed:
    """Every wrong field of JSON text that does not fit the struct `kind`."""
    try:
        # The typed decoder stops at the first value that does not fit, and the rest may be malformed.
        decoder_of(msgspec.Raw).decode(text)
        fields = decoder_of(dict[str, msgspec.Raw]).decode(text)
    except msgspec.ValidationError as error:
        return ValidationFailed.all([_fault(error, "")])
    except JSON_ERRORS:
        return explain_bad_json(text if isinstance(text, str) else bytes(text))
    failed = _explain(fields, kind, lambda path, raw, wanted: _wrong_json(path, bytes(raw), wanted))
    if failed.errors:
        return failed
    # A repeated name: the typed decoder checks every value of it, and `fields` holds only the last.
    try:
        decoder_of(kind).decode(text)
    except msgspec.ValidationError as error:
        return ValidationFailed.all([_fault(error, "")])
    return failed


def explain_arguments(texts: Mapping[str, str], kind: type) -> ValidationFailed:
    """Every query argument that does not fit the struct `kind`."""
    return _explain(texts, kind, _wrong_argument)


def explain_bad_json(data: bytes | str, item: int | None = None) -> ValidationFailed:
    """The clearest error for JSON that did not decode: the paths of bad strings, else that it is malformed.

    If `item` is given, only that item of a list is searched, and paths are relative to it.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        if len(text) > MAX_SEARCHED_LENGTH or not SURROGATE.search(text):
            raise ValueError("nothing in it can be named")
        # msgspec names no path for a lone surrogate; the standard decoder accepts it, so that it can be found.
        value = json.loads(text)
        wrong = list(islice(wrong_strings(value if item is None else value[item], MAX_SEARCHED), MAX_NAMED))
    except (ValueError, LookupError, TypeError, RecursionError):
        wrong = []
    return ValidationFailed.all(wrong) if wrong else ValidationFailed.at("", "malformed JSON")


def wrong_strings(value: Any, most: int | None = None) -> Iterator[FieldError]:
    """Strings with NUL or half of a surrogate pair, and values nested too deeply, among the first `most` values."""
    stack = [iter((("", value),))]
    seen = 0
    while stack and seen != most:
        path, value = next(stack[-1], _END)
        if path is None:
            stack.pop()
            continue
        seen += 1
        fault = _wrong_string(value) if isinstance(value, str) else None
        if len(stack) > MAX_DEPTH + 1:
            fault = "is nested too deeply"
        elif isinstance(value, dict | list | tuple):
            # A bad key has no path: the error is that of its container.
            fault = next(filter(None, map(_wrong_string, value)), None) if isinstance(value, dict) else None
            if fault is None:
                stack.append(_inside(path, value))
        if fault is not None:
            yield FieldError(path, fault)


def _inside(path: str, value: dict[str, Any] | list[Any] | tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        return ((f"{path}.{key}" if path else key, item) for key, item in value.items())
    return ((f"{path}[{index}]", item) for index, item in enumerate(value))


def _wrong_string(value: str) -> str | None:
    if "\x00" in value:
        return "must not contain NUL"
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        return "must be valid Unicode"
    return None


def _explain(
    values: Mapping[str, Any], kind: type, wrong: Callable[[str, Any, Any], Iterable[FieldError]]
) -> ValidationFailed:
    def errors() -> Iterator[FieldError]:
        for field in msgspec.structs.fields(kind):
            if field.encode_name in values:
                yield from wrong(field.encode_name, values[field.encode_name], field.type)
            elif field.required:
                yield FieldError(field.encode_name, "is required")

    return ValidationFailed.all(list(islice(errors(), MAX_NAMED)))


def _wrong_argument(path: str, text: str, wanted: Any) -> Iterator[FieldError]:
    try:
        msgspec.convert(text, wanted, strict=False)
    except msgspec.ValidationError as error:
        yield _fault(error, path)


def _wrong_json(path: str, raw: bytes, wanted: Any) -> Iterator[FieldError]:
    info = _type_info(wanted)
    try:
        if isinstance(info, msgspec.inspect.DictType | msgspec.inspect.ListType):
            container = decoder_of(CONTAINERS[type(info)]).decode(raw)
            if info.max_length is None or len(container) <= info.max_length:
                yield from _wrong_entries(_entries(path, container), _json_type(info), decoder_of(wanted))
            else:
                # Only the number is reported, which bounds the cost of checking the entries.
                yield FieldError(path, _in_words(f"Expected `{_json_type(info)}` of length <= {info.max_length}"))
        else:
            decoder_of(wanted).decode(raw)
    except msgspec.ValidationError as error:
        yield _fault(error, path)


def _entries(path: str, container: dict[str, msgspec.Raw] | list[msgspec.Raw]) -> list[Entry]:
    if isinstance(container, list):
        return [(f"{path}[{index}]", bytes(item)) for index, item in enumerate(container)]
    return [(f"{path}.{key}", msgspec.json.encode(key) + b":" + bytes(item)) for key, item in container.items()]


def _wrong_entries(entries: list[Entry], form: str, decoder: msgspec.json.Decoder[Any]) -> Iterator[FieldError]:
    """Bisects: a few wrong ones among thousands are found at the cost of decoding all a few times."""
    inner = b",".join(text for _path, text in entries)
    try:
        decoder.decode(b"[%b]" % inner if form == "array" else b"{%b}" % inner)
    except msgspec.ValidationError as error:
        if len(entries) > 1:
            half = len(entries) // 2
            yield from _wrong_entries(entries[:half], form, decoder)
            yield from _wrong_entries(entries[half:], form, decoder)
            return
        path, _text = entries[0]
        inside = _fault(error, "")
        # The path within the entry, without its index in the list of one.
        rest = re.sub(r"^\[0\]", "", inside.path).removeprefix(".")
        yield FieldError(f"{path}.{rest}" if rest and rest[0] != "[" else path + rest, inside.message)


def _json_type(info: msgspec.inspect.DictType | msgspec.inspect.ListType) -> str:
    return "array" if isinstance(info, msgspec.inspect.ListType) else "object"


def _fault(error: msgspec.ValidationError, path: str) -> FieldError:
    """The error of msgspec in our form.

    msgspec writes "Expected `str`, got `int` - at `$.content`", for keys "at `key` in `$.rooms`", and for a value under
    any key "at `$.rooms[...]`".
    """
    message, inner = str(error), _place(error)
    if inner:
        message = message.rpartition(" - at `")[0]
        inner = inner.removeprefix("key` in `").removeprefix("$").replace("[...]", "")
    if message.startswith("Object missing required field `"):
        inner, message = f"{inner}.{message.split('`')[1]}", "is required"
    return FieldError((path + inner).removeprefix("."), _in_words(message))


def _place(error: msgspec.ValidationError) -> str:
    """The path as msgspec writes it; empty for the whole input. One within the text is part of a client's value."""
    text = str(error)
    return text.rpartition(" - at `")[2].rstrip("`") if text.endswith("`") and " - at `" in text else ""


def _in_words(message: str) -> str:
    """The message of msgspec, without the names of Python's types and without the value."""
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
