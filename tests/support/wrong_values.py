"""Every way in which one field of a payload can be wrong, made from its declaration."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

OPERATOR = {"$gt": ""}
LONE_SURROGATE = "a\ud800b"
NUL = "a\0b"


class Field(NamedTuple):
    """One field: its JSON name, its kind, and what may be left out. `most` is its length or size; 0 is unbounded."""

    name: str
    kind: Literal["text", "integer", "list", "map"]
    is_required: bool = False
    takes_null: bool = True
    least: int = 0
    most: int = 0


def text(name: str, most: int = 0, *, required: bool = False, null: bool | None = None) -> Field:
    return Field(name, "text", required, not required if null is None else null, most=most)


def integer(name: str, least: int, most: int = 0) -> Field:
    return Field(name, "integer", least=least, most=most)


def text_list(name: str, most: int) -> Field:
    return Field(name, "list", is_required=True, takes_null=False, most=most)


def number_map(name: str) -> Field:
    return Field(name, "map", is_required=True, takes_null=False)


def wrong_arguments(field: Field) -> Iterator[tuple[str, object]]:
    """(what is wrong, the value) for a query argument."""
    if field.kind == "integer":
        yield from (("words", "many"), ("empty", ""), ("a fraction", "1.5"), ("NUL", "1\0"))
        yield from (("beyond 64 bits", 10**40), ("far below zero", -(10**40)), ("too small", field.least - 1))
        if field.most:
            yield "too large", field.most + 1
    else:
        yield "NUL", NUL
        if field.is_required:
            yield "empty", ""
        if field.most:
            yield "too long", "x" * (field.most + 1)


def wrong_values(field: Field, good: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(what is wrong, the payload with that fault) for every fault that the field can have."""
    if field.is_required:
        yield "missing", {key: value for key, value in good.items() if key != field.name}
    for label, value in _values(field):
        yield label, {**good, field.name: value}


def _values(field: Field) -> Iterator[tuple[str, Any]]:
    if not field.takes_null:
        yield "null", None
    yield "a number", 7
    yield "a fraction", 1.5
    yield "a boolean", True
    yield "an operator", OPERATOR
    if field.kind == "text":
        yield from (("an object", {}), ("a list", []), ("a list of text", ["x"]))
        yield from (("a lone surrogate", LONE_SURROGATE), ("NUL", NUL))
        if field.most:
            yield "too long", "x" * (field.most + 1)
    elif field.kind == "list":
        yield from (("an object", {}), ("text", "x"), ("a number inside", [1]), ("null inside", [None]))
        yield from (("an operator inside", [OPERATOR]), ("a list inside", [["x"]]), ("NUL inside", [NUL]))
        yield "a lone surrogate inside", [LONE_SURROGATE]
        yield "too many", [f"{number}" for number in range(field.most + 1)]
    elif field.kind == "map":
        yield from (("a list", []), ("text", "x"), ("text inside", {"r": "1"}), ("null inside", {"r": None}))
        yield from (("a fraction inside", {"r": 1.5}), ("an operator inside", {"r": OPERATOR}))
        yield from (("below zero", {"r": -1}), ("beyond 64 bits", {"r": 10**30}), ("a boolean inside", {"r": True}))
        yield from (("NUL in a key", {NUL: 1}), ("a lone surrogate in a key", {LONE_SURROGATE: 1}))
