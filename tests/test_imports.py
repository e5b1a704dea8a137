"""The import rules: every module has one layer, imports point down, libraries stay in their place."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("server", "handlers")

# Each layer with its modules and packages, and the layers below that it may import. `docs/architecture.md` draws this.
LAYERS: dict[str, tuple[set[str], set[str]]] = {
    "config": ({"server.config"}, set()),
    "vocabulary": (
        {
            "server",
            "server.blocks",
            "server.bounds",
            "server.client_network",
            "server.distributions",
            "server.errors",
            "server.events",
            "server.explain",
            "server.failpoints",
            "server.file_types",
            "server.inbound",
            "server.log",
            "server.lookalikes",
            "server.member_state",
            "server.metrics",
            "server.models",
            "server.changes",
            "server.notices",
            "server.protocol",
            "server.requests",
            "server.room_state",
            "server.views",
            "server.web_address",
        },
        {"config"},
    ),
    "concurrency": ({"server.concurrency"}, {"vocabulary"}),
    "realtime": ({"server.realtime"}, {"vocabulary", "concurrency"}),
    "storage": ({"server.storage"}, {"vocabulary", "config"}),
    "embedded": ({"server.embedded"}, {"vocabulary", "config"}),
    "services": ({"server.services"}, {"vocabulary", "config", "concurrency", "realtime", "storage"}),
    "lifecycle": ({"server.lifecycle"}, {"concurrency"}),
    "context": (
        {"server.context", "server.readings"},
        {"vocabulary", "config", "concurrency", "realtime", "storage", "embedded", "services", "lifecycle"},
    ),
    "operations": (
        {"server.operations"},
        {"vocabulary", "config", "realtime", "services", "context"},
    ),
    "admin": ({"server.admin"}, {"vocabulary", "config", "storage", "services", "embedded"}),
    "handlers": (
        {"handlers"},
        {"vocabulary", "config", "concurrency", "realtime", "services", "context", "operations"},
    ),
    "main": ({"main"}, {"vocabulary", "config", "embedded", "admin", "handlers"}),
}
# A module whose name is also a package's prefix stands for itself alone.
ALONE = {"server"}
# Where each library may be imported.
LIBRARIES = {
    "engineio": ("handlers.socket.engine",),
    "socketio": ("handlers.socket.engine",),
    "tornado": ("handlers", "server.concurrency.periodic"),
    "motor": ("server.storage", "server.embedded"),
    "pymongo": ("server.storage", "server.embedded"),
    "bson": ("server.storage", "server.embedded"),
    "redis": ("server.storage", "server.embedded"),
}


class Import(NamedTuple):
    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def find_modules(root: Path) -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {"main": root / "main.py"}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def read_imports(modules: Mapping[str, Path]) -> Iterator[Import]:
    """What each module imports anywhere in it: in functions and under `if TYPE_CHECKING` too."""
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from {Import(name, alias.name, node.lineno) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}: relative imports hide who depends on whom"
                assert node.module is not None
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from {Import(name, one if one in modules else node.module, node.lineno) for one in inner}


def is_within(name: str, package: str) -> bool:
    return name == package or (package not in ALONE and name.startswith(package + "."))


def layers_of(name: str) -> list[str]:
    return [layer for layer, (members, _) in LAYERS.items() if any(is_within(name, member) for member in members)]


def find_homeless(modules: Mapping[str, Path]) -> list[str]:
    """Modules that belong to no layer, or to more than one."""
    return [name for name in modules if len(layers_of(name)) != 1]


def find_upward(modules: Mapping[str, Path]) -> list[str]:
    """Imports of a layer that is not named as below the importer's own."""
    wrong = []
    for one in read_imports(modules):
        if one.imported in modules:
            (own,), (other,) = layers_of(one.importer), layers_of(one.imported)
            if other != own and other not in LAYERS[own][1]:
                wrong.append(f"{one}: {own} may not import {other}")
    return wrong


MODULES = find_modules(ROOT)
IMPORTS = list(read_imports(MODULES))


def test_every_module_belongs_to_one_layer() -> None:
    assert not find_homeless(MODULES)


def test_a_new_module_without_a_layer_is_found(tmp_path: Path) -> None:
    (tmp_path / "drawer.py").write_text('"""Things."""\n')
    assert find_homeless({**MODULES, "server.drawer": tmp_path / "drawer.py"}) == ["server.drawer"]


def test_arrows_point_down() -> None:
    assert not find_upward(MODULES)


def test_an_arrow_back_up_is_found(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text('"""Looks up."""\nfrom server.services.limits import Limits\n')
    found = find_upward({**MODULES, "server.storage.planted": planted})
    assert found == ["server.storage.planted:2 imports server.services.limits: storage may not import services"]


def test_the_picture_of_the_architecture_shows_the_arrows_that_there_are() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", page, flags=re.MULTILINE))
    (layers,) = zip(*(layers_of(name) for name in MODULES), strict=True)
    layer_of = dict(zip(MODULES, layers, strict=True))
    there = {(layer_of[one.importer], layer_of[one.imported]) for one in IMPORTS if one.imported in MODULES}
    assert drawn == {(own, other) for own, other in there if own != other}


def test_packages_of_services_do_not_know_each_other() -> None:
    """Their objects meet in constructors. Files of one package may import each other."""

    def package(name: str) -> list[str]:
        return name.split(".")[:3]

    wrong = [
        str(one)
        for one in IMPORTS
        if is_within(one.importer, "server.services") and is_within(one.imported, "server.services")
        if package(one.importer) != package(one.imported)
    ]
    assert not wrong


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_stays_in_its_place(library: str) -> None:
    users = [one for one in IMPORTS if is_within(one.imported, library)]
    assert users, "nobody imports it"
    wrong = [str(one) for one in users if not any(is_within(one.importer, place) for place in LIBRARIES[library])]
    assert not wrong


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_import_cycle_leads_back_to(name: str) -> None:
    ahead_of: dict[str, list[str]] = {}
    for one in IMPORTS:
        if one.imported in MODULES and one.imported != one.importer:
            ahead_of.setdefault(one.importer, []).append(one.imported)
    seen: set[str] = set()
    ahead = list(ahead_of.get(name, ()))
    while ahead:
        reached = ahead.pop()
        assert reached != name, f"{name} imports itself by way of {sorted(seen)}"
        if reached not in seen:
            seen.add(reached)
            ahead += ahead_of.get(reached, [])
