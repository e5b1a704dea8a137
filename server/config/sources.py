"""Reads settings from file, environment and command line; each value keeps its origin for error messages."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from server.config.types import Declaration

VARIABLE_PREFIX: Final = "MADANG_"
# Settings outside of a section. Other names without a section are ignored: Kubernetes sets MADANG_PORT and the like
# for a service that is called madang.
WITHOUT_SECTION: Final = frozenset({"MADANG_DATA_DIR"})


class ConfigError(Exception):
    """A setting that cannot be used. `path` is its origin: `FILE:LINE`, an option or a variable."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message


class Entry(msgspec.Struct, frozen=True):
    """One given value as a YAML node. `typed_out` is set for variables and options, which are written without quotes:
    there, the text `42` may mean a string too."""

    origin: str
    node: Any
    typed_out: bool = False

    def value(self, declaration: Declaration) -> Any:
        """The checked value. Raises `ConfigError`."""
        try:
            if self.typed_out and declaration.type is str and isinstance(self.node, yaml.ScalarNode):
                return declaration.read(self.node.value)
            return declaration.read(yaml.constructor.SafeConstructor().construct_document(self.node))
        except yaml.YAMLError:
            raise ConfigError(self.origin, f"{declaration.key}: not a plain value") from None
        except ValueError as error:
            raise ConfigError(self.origin, f"{declaration.key}: {error}") from None


def read_file(path: Path, known: Mapping[str, Declaration]) -> dict[str, Entry]:
    """The entries of a YAML file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    root = _compose(content, str(path), located=True)
    entries: dict[str, Entry] = {}
    if root is not None:
        _collect(root, "", known, entries, lambda node: f"{path}:{node.start_mark.line + 1}", typed_out=False)
    return entries


def read_environment(environ: Mapping[str, str], known: Mapping[str, Declaration]) -> dict[str, Entry]:
    """The entries of `MADANG_A__B=value` variables and of MADANG_DATA_DIR; names are matched without case."""
    entries: dict[str, Entry] = {}
    for name, value in sorted(environ.items()):
        if _is_setting(name):
            key = name[len(VARIABLE_PREFIX) :].lower().replace("__", ".")
            _collect_one(key, value, f"environment variable {name}", known, entries)
    return entries


def other_variables(environ: Mapping[str, str]) -> list[str]:
    """The names of the variables that have the prefix of settings and are none."""
    return sorted(name for name in environ if name.upper().startswith(VARIABLE_PREFIX) and not _is_setting(name))


def read_options(sets: Sequence[str], known: Mapping[str, Declaration]) -> dict[str, Entry]:
    """The entries of `a.b=value` options; the last of a repeated one wins."""
    entries: dict[str, Entry] = {}
    for option in sets:
        key, equals, value = option.partition("=")
        origin = f"option --set {key}"
        if not equals:
            raise ConfigError(origin, "expected KEY=VALUE")
        given: dict[str, Entry] = {}
        _collect_one(key.strip(), value, origin, known, given)
        entries.update(given)
    return entries


def merge(*sources: Mapping[str, Entry]) -> dict[str, Entry]:
    """All entries; later sources win."""
    merged: dict[str, Entry] = {}
    for source in sources:
        merged.update(source)
    return merged


def _is_setting(name: str) -> bool:
    name = name.upper()
    section, separator, _ = name.removeprefix(VARIABLE_PREFIX).partition("__")
    return name in WITHOUT_SECTION or (name.startswith(VARIABLE_PREFIX) and bool(section and separator))


def _collect_one(
    key: str, value: str, origin: str, known: Mapping[str, Declaration], entries: dict[str, Entry]
) -> None:
    node = _compose(value.encode("utf-8", "surrogateescape"), origin)
    if node is None:
        node = yaml.ScalarNode("tag:yaml.org,2002:null", "")
    _place(key, node, known, entries, lambda _: origin, typed_out=True, at=origin)


def _compose(content: bytes, origin: str, *, located: bool = False) -> Any:
    try:
        return yaml.compose(content.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{origin}:{line}" if located else origin, "not UTF-8 text") from None
    except RecursionError:
        raise ConfigError(origin, "nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{origin}:{mark.line + 1}" if mark and located else origin
        raise ConfigError(place, f"not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(origin, f"not valid YAML: {str(error).splitlines()[0]}") from None


def _collect(
    node: Any, prefix: str, known: Mapping[str, Declaration], entries: dict[str, Entry], locate: Any, *, typed_out: bool
) -> None:
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
        return
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(locate(node), f"{prefix.rstrip('.') or 'the file'}: expected settings, each `name: value`")
    seen: set[str] = set()
    for name_node, value_node in node.value:
        at = locate(name_node)
        name = name_node.value if isinstance(name_node, yaml.ScalarNode) else "?"
        if name in seen:
            raise ConfigError(at, f"{prefix}{name}: given twice")
        seen.add(name)
        _place(prefix + name, value_node, known, entries, locate, typed_out=typed_out, at=at)


def _place(
    key: str,
    node: Any,
    known: Mapping[str, Declaration],
    entries: dict[str, Entry],
    locate: Any,
    *,
    typed_out: bool,
    at: str,
) -> None:
    if key in known:
        if key in entries:
            raise ConfigError(at, f"{key}: given twice")
        entries[key] = Entry(at, node, typed_out)
    elif any(other.startswith(key + ".") for other in known):
        _collect(node, key + ".", known, entries, locate, typed_out=typed_out)
    else:
        raise ConfigError(at, f"{key}: unknown setting{_suggestion(key, known)}")


def _suggestion(key: str, known: Mapping[str, Declaration]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
