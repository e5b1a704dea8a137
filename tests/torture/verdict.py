"""What the rules share: the final log of every room, and a broken promise."""

from typing import NamedTuple

from tests.torture.history import Record


class Log(NamedTuple):
    """`members[room]` are user ids; `messages[room]` the `stored` records, in the order in which history gave them."""

    members: dict[str, list[str]]
    messages: dict[str, list[Record]]


class Violation(NamedTuple):
    rule: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}"
