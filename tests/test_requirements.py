"""Requirements: pinned with hashes, serving apart from tests, in step with pyproject.toml."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = {"server": ROOT / "requirements.txt", "tests": ROOT / "tests" / "requirements.txt"}
OWN = {"bench", "handlers", "server", "tests"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(file: Path) -> dict[str, str]:
    return {canonical(name): version for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", file.read_text(), re.M)}


@pytest.mark.parametrize("group", FILES)
def test_what_is_asked_for_is_pinned(group: str) -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"][group]
    assert asked
    found = pinned(FILES[group])
    for requirement in asked:
        name, version = requirement.split("==")
        assert found.get(canonical(name)) == version, f"{requirement}: run make lock"


@pytest.mark.parametrize("group", FILES)
def test_every_version_has_its_hashes(group: str) -> None:
    entries = re.split(r"\n(?=[A-Za-z])", re.sub(r"^#.*\n", "", FILES[group].read_text(), flags=re.M))
    assert len(entries) == len(pinned(FILES[group]))
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry


def test_what_serves_needs_nothing_of_what_tests() -> None:
    sources = [ROOT / "main.py", *(ROOT / "server").rglob("*.py"), *(ROOT / "handlers").rglob("*.py")]
    modules: set[str] = set()
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.partition(".")[0])
    served = pinned(FILES["server"])
    distributions = packages_distributions()
    for module in modules - OWN - sys.stdlib_module_names:
        names = {canonical(name) for name in distributions[module]}
        assert names & served.keys(), f"{module} is imported, but requirements.txt has none of {names}"
