"""The kinds of settings: parses, checks and formats durations, sizes, addresses and plain values."""

import ipaddress
import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Final, get_args, get_origin

import msgspec
import yaml

KIB: Final = 1024
MIB: Final = 1024**2

SECONDS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
BYTES: Final = {
    "TiB": 1024**4,
    "TB": 1000**4,
    "GiB": 1024**3,
    "GB": 1000**3,
    "MiB": MIB,
    "MB": 1000**2,
    "KiB": KIB,
    "KB": 1000,
    "B": 1,
}
# For editors; `QUANTITY` and the bounds decide.
DURATION_SHAPE: Final = r"^[0-9]+(\.[0-9]+)? *(d|h|m|s|ms)$"
SIZE_SHAPE: Final = r"^[0-9]+(\.[0-9]+)? *([KMGT]i?)?B$"
QUANTITY: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]+)", re.ASCII)
NAME: Final = re.compile(r"\w[\w -]{0,49}")
# A token of RFC 9110, 5.6.2.
HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&\'*+.^_`|~-]{1,100}")
ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.\-]+(:\d{1,5})?|https?://\[[0-9A-Fa-f:]+\](:\d{1,5})?")


class Kind(msgspec.Struct, frozen=True):
    """How one kind of value is parsed and formatted.

    `read` converts a YAML value, and raises `ValueError` with what was expected. `write` formats a value for the file.
    `bounds` describes its range in the comment. `schema` is what JSON Schema can say of it, which may be less.
    """

    read: Callable[[Any], Any]
    write: Callable[[Any], str]
    bounds: str = ""
    schema: Mapping[str, Any] = {}

    def plain(self, value: Any) -> Any:
        """A value as the file holds it."""
        return yaml.safe_load(self.write(value))


class Declaration(msgspec.Struct, frozen=True):
    """One setting: dotted key, type, default, meaning and kind."""

    key: str
    type: Any
    default: Any
    meaning: str
    kind: Kind

    def read(self, value: Any) -> Any:
        """The checked value. Raises `ValueError`, which says what was expected and never repeats the value."""
        return self.kind.read(value)


def meaning(words: str, **bounds: Any) -> msgspec.Meta:
    """A plain value; `bounds` are those of `msgspec.Meta`."""
    return msgspec.Meta(description=words, **bounds)


def duration(words: str, least: float, most: float) -> msgspec.Meta:
    """Seconds, written with a unit: `500ms`, `5s`, `10m`, `24h`, `30d`."""
    bounds = f"{write_duration(least)} to {write_duration(most)}"

    def read(value: Any) -> float:
        seconds = _quantity(value, SECONDS, f"a duration such as 500ms, 5s, 10m, 24h or 30d, {bounds}")
        return _within(seconds, least, most, bounds)

    return msgspec.Meta(
        description=words,
        extra={"kind": Kind(read, write_duration, bounds, {"type": "string", "pattern": DURATION_SHAPE})},
    )


def read_duration(text: str) -> float:
    """Seconds of a duration such as `7d`. Raises `ValueError`."""
    return _quantity(text, SECONDS, "a duration such as 500ms, 5s, 10m, 24h or 30d")


def size(words: str, least: int, most: int) -> msgspec.Meta:
    """Bytes: a whole number, or one with a unit: `64KiB`, `20MB`."""
    bounds = f"{write_size(least)} to {write_size(most)}"

    def read(value: Any) -> int:
        if type(value) is int:
            return int(_within(value, least, most, bounds))
        return int(_within(_quantity(value, BYTES, f"a size such as 64KiB or 20MB, {bounds}"), least, most, bounds))

    return msgspec.Meta(
        description=words,
        extra={"kind": Kind(read, write_size, bounds, {"type": ["string", "integer"], "pattern": SIZE_SHAPE})},
    )


def text(words: str, pattern: str, expected: str) -> msgspec.Meta:
    """A string that matches the whole pattern; `expected` describes it in errors."""
    shape = re.compile(pattern)

    def read(value: Any) -> str:
        if not isinstance(value, str) or not shape.fullmatch(value):
            raise ValueError(f"expected {expected}")
        return value

    schema = {"type": "string"} if set(pattern) & set("\\?") else {"type": "string", "pattern": f"^({pattern})$"}
    return msgspec.Meta(description=words, extra={"kind": Kind(read, write_plain, schema=schema)})


def ip_networks(words: str) -> msgspec.Meta:
    """A list of IP addresses and networks."""

    def is_network(item: str) -> bool:
        try:
            return bool(ipaddress.ip_network(item))
        except ValueError:
            return False

    return _strings(words, is_network, "a list of IP addresses and networks such as 127.0.0.1 and 10.0.0.0/8")


def web_origins(words: str) -> msgspec.Meta:
    """A list of web origins: scheme, host and port, nothing after them."""
    return _strings(
        words, lambda item: bool(ORIGIN.fullmatch(item)), "a list of origins such as https://app.example.com"
    )


def names(words: str) -> msgspec.Meta:
    """A list of short names."""
    return _strings(
        words, lambda item: bool(NAME.fullmatch(item)), "a list of names of 1 to 50 letters, digits, _, - and blanks"
    )


def choices(words: str, options: Collection[str]) -> msgspec.Meta:
    """A list of some of these."""
    return _strings(words, lambda item: item in options, f"a list of some of {', '.join(options)}")


def header_names(words: str) -> msgspec.Meta:
    """A list of names of HTTP headers."""
    return _strings(words, lambda item: bool(HEADER_NAME.fullmatch(item)), "a list of names such as X-Trace-Id")


def claim_names(words: str) -> msgspec.Meta:
    """A list of names of claims of a JSON Web Token."""
    return _strings(words, lambda item: 0 < len(item) <= 200, "a list of names of claims")


def declarations(section: type[msgspec.Struct], prefix: str = "") -> list[Declaration]:
    """The settings of a struct and of its nested structs, in order of declaration."""
    found: list[Declaration] = []
    for field in msgspec.structs.fields(section):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found.extend(declarations(field.type, f"{prefix}{field.name}."))
            continue
        base, meta = get_args(field.type) if get_origin(field.type) is Annotated else (field.type, msgspec.Meta())
        default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
        kind = (meta.extra or {}).get("kind") or _plain(field.type, base, meta)
        found.append(Declaration(prefix + field.name, base, default, meta.description or "", kind))
    return found


def write_settings(settings: list[Declaration]) -> str:
    """The text of a file with the default of every setting, its meaning and bounds as a comment."""
    lines = [
        "# Settings, each with its default. A line left out means the default; an unknown name stops the start.",
        "# Durations: 500ms, 5s, 10m, 24h, 30d. Sizes: 64KiB, 20MB. `--set server.port=8080` and the environment",
        "# variable MADANG_SERVER__PORT=8080 win over this file. Keep secrets in the environment, not here.",
    ]
    section: list[str] = []
    for setting in settings:
        *heads, name = setting.key.split(".")
        if heads != section or not heads:
            shared = sum(1 for mine, last in zip(heads, section, strict=False) if mine == last)
            lines.append("")
            lines.extend(f"{'  ' * depth}{heads[depth]}:" for depth in range(shared, len(heads)))
            section = heads
        indent = "  " * len(heads)
        bounds = f" ({setting.kind.bounds})" if setting.kind.bounds else ""
        lines.append(f"{indent}# {setting.meaning}{bounds}")
        lines.append(f"{indent}{name}: {setting.kind.write(setting.default)}")
    return "\n".join(lines) + "\n"


def write_duration(seconds: float) -> str:
    """In the largest unit that divides it exactly, at least two of `d`, `h` and `m`: `60s`, `24h`, `500ms`."""
    for unit, factor in SECONDS.items():
        count = round(seconds / factor, 9)
        if count.is_integer() and count >= (2 if factor > 1 else 1):
            return f"{int(count)}{unit}"
    return "0s"


def write_size(count: int, space: str = "") -> str:
    """The shortest exact form, e.g. `64KiB`, `20MB`, `1B`; `space` precedes the unit."""
    exact = [f"{count // factor}{space}{unit}" for unit, factor in BYTES.items() if count % factor == 0]
    return min(exact, key=len)


def write_plain(value: Any) -> str:
    """The value as YAML in one line."""
    if isinstance(value, str) and yaml.safe_load(f"a: {value}") == {"a": value}:
        return value
    return json.dumps(value)


def _quantity(value: Any, units: dict[str, Any], expected: str) -> float:
    found = QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None or found[2] not in units:
        raise ValueError(f"expected {expected}")
    return float(found[1]) * float(units[found[2]])


def _within(number: float, least: float, most: float, bounds: str) -> float:
    if not least <= number <= most:
        raise ValueError(f"expected {bounds}")
    return number


def _strings(words: str, fits: Callable[[str], bool], expected: str) -> msgspec.Meta:
    def read(value: Any) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(item, str) and fits(item) for item in value):
            raise ValueError(f"expected {expected}")
        return value

    return msgspec.Meta(
        description=words,
        extra={"kind": Kind(read, write_plain, schema={"type": "array", "items": {"type": "string"}})},
    )


def _plain(annotated: Any, base: Any, meta: msgspec.Meta) -> Kind:
    """The kind of a choice, a boolean or an integer."""
    choices = [str(choice) for choice in get_args(base)]
    bounds = " or ".join(choices) if choices else f"{meta.ge} to {meta.le}" if base is int else ""
    expected = bounds if choices else f"a whole number, {bounds}" if base is int else "true or false"

    def read(value: Any) -> Any:
        try:
            return msgspec.convert(value, annotated)
        except msgspec.ValidationError:
            raise ValueError(f"expected {expected}") from None

    schema: dict[str, Any] = {"type": "boolean"}
    if choices:
        schema = {"enum": choices}
    elif base is int:
        schema = {"type": "integer", "minimum": meta.ge, "maximum": meta.le}
    return Kind(read, write_plain, bounds, schema)
