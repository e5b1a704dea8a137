"""The import rule, read from the syntax trees: arrows point one way, and libraries stay in their place."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("server", "handlers")
FOUNDATIONS = {"server.models", "server.errors", "server.config", "server.protocol"}
STORE_DRIVERS = {"motor", "pymongo", "bson", "redis"}
WEB_LIBRARIES = {"tornado", "socketio", "engineio"}


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {"main": ROOT / "main.py"}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports_of(name: str) -> Iterator[tuple[str, int]]:
    """The dotted names that a module imports anywhere in it (in functions and `if TYPE_CHECKING` too), with lines."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            yield from {(alias.name, node.lineno) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{MODULES[name]}:{node.lineno}: relative imports hide who depends on whom"
            assert node.module is not None
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from {(name if name in MODULES else node.module, node.lineno) for name in inner}


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def offences(users: list[str], forbidden: tuple[str, ...]) -> list[str]:
    """Where one of `users` imports from one of `forbidden`."""
    return [
        f"{MODULES[user].relative_to(ROOT)}:{line} imports {imported}"
        for user in users
        for imported, line in imports_of(user)
        if within(imported, *forbidden)
    ]


def members(*packages: str) -> list[str]:
    return [name for name in MODULES if within(name, *packages)]


def test_there_is_something_to_check() -> None:
    assert members("server.services") and members("server.storage") and members("handlers.socket")


def test_storage_knows_only_the_foundations() -> None:
    allowed = FOUNDATIONS | {"server.storage"}
    wrong = [
        f"{name} imports {imported} (line {line})"
        for name in members("server.storage")
        for imported, line in imports_of(name)
        if within(imported, *PACKAGES) and not within(imported, *allowed)
    ]
    assert not wrong, wrong


def test_services_know_no_library_of_the_outside() -> None:
    assert not offences(members("server.services"), tuple(STORE_DRIVERS | WEB_LIBRARIES))


def test_services_do_not_know_each_other() -> None:
    """What a service needs of a sibling arrives in its constructor; only modules without a service may be shared."""
    wrong = [
        f"{name} imports {imported} (line {line})"
        for name in members("server.services")
        for imported, line in imports_of(name)
        if within(imported, "server.services") and imported != name
    ]
    assert not wrong, wrong


def test_foundations_know_nobody_above() -> None:
    above = ("main", "handlers", "server.services", "server.storage", "server.context", "server.realtime")
    assert not offences([name for name in MODULES if name in FOUNDATIONS], above)


def test_server_does_not_know_the_handlers() -> None:
    assert not offences(members("server"), ("handlers", "main"))


def test_handlers_do_not_know_the_stores() -> None:
    assert not offences(members("handlers"), ("server.storage", *STORE_DRIVERS))


def test_store_drivers_stay_in_storage() -> None:
    """The embedded stores' supervisor may ask its children whether they are ready; nobody else speaks to a driver."""
    users = [name for name in members("server", "handlers") if not within(name, "server.storage", "server.embedded")]
    assert not offences(users, tuple(STORE_DRIVERS))


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_import_cycle_leads_back_to(name: str) -> None:
    seen: set[str] = set()
    ahead = [imported for imported, _ in imports_of(name) if imported in MODULES and imported != name]
    while ahead:
        reached = ahead.pop()
        assert reached != name, f"{name} imports itself by way of {sorted(seen)}"
        if reached not in seen:
            seen.add(reached)
            ahead += [imported for imported, _ in imports_of(reached) if imported in MODULES]
