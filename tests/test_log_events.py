"""Every entry of the log is an event of one list, and its values are fields with names."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from server.log.events import EVENTS, OF_LIBRARY
from server.log.formats import CONVERSION, read_template
from tests.support.server_process import ROOT

METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
# What must never be logged, under whatever name.
FORBIDDEN = {"authorization", "body", "content", "email", "password", "phone", "query", "secret", "token"}
PAGE = ROOT / "docs" / "monitoring.md"


class Entry(NamedTuple):
    """A call in the code that logs something."""

    place: str
    message: str
    arguments: int


def entries() -> Iterator[Entry]:
    for path in (*ROOT.glob("server/**/*.py"), *ROOT.glob("handlers/**/*.py"), ROOT / "main.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS):
                continue
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "log":
                yield Entry(f"{path}:{node.lineno}", ast.literal_eval(node.args[0]), len(node.args) - 1)


def test_what_is_logged_is_what_is_listed() -> None:
    assert {read_template(entry.message).event for entry in entries()} | {OF_LIBRARY} == set(EVENTS)


def test_every_value_is_a_field() -> None:
    for entry in entries():
        names = [name for name, value in read_template(entry.message).fields if value is None]
        assert len(names) == entry.arguments == len(CONVERSION.findall(entry.message)), entry
        assert len(set(names)) == len(names) and not FORBIDDEN.intersection(names), entry


def test_the_page_lists_them() -> None:
    table = re.search(r"\| event \| what it means \|\n\| --- \| --- \|\n((?:\|.*\n)+)", PAGE.read_text())
    assert table is not None
    assert table.group(1) == "".join(f"| `{name}` | {meaning} |\n" for name, meaning in EVENTS.items())
