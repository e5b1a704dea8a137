"""Loads the settings from file, environment and options, and checks them one by one and together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from server.config.external import PUBLIC_KEY_KEY, check_external, check_key_file
from server.config.settings import Messages, Section, Settings
from server.config.sources import ConfigError, Entry, merge, read_environment, read_file, read_options
from server.config.types import KIB, Declaration, declarations, write_settings, write_size

# One character takes at most two escapes of six bytes (`\ud83d\ude00`); the overhead is for the other fields.
ESCAPED_CHARACTER_BYTES: Final = 12
MESSAGE_OVERHEAD_BYTES: Final = 4 * KIB
LENGTH_KEY: Final = "messages.max_length"
PAYLOAD_KEY: Final = "server.max_payload"
DATA_DIR_KEY: Final = "data_dir"

SectionType = TypeVar("SectionType", bound=Section)


def declared() -> list[Declaration]:
    """Every setting in the order of the file."""
    return declarations(Settings)


def default_file() -> str:
    """The text of `config.yaml`: every setting once, with its default, its bounds and one line of comment."""
    return write_settings(declared())


def load(path: Path, sets: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> Settings:
    """Read the file, then `MADANG_A__B=value` of the environment, then `a.b=value` options; later ones win.

    Raises `ConfigError`, which names the file and line (or the variable or option) and the key.
    """
    known = {declaration.key: declaration for declaration in declared()}
    entries = merge(read_file(path, known), read_environment(environ or {}, known), read_options(sets, known))
    values = {key: entry.value(known[key]) for key, entry in entries.items()}
    settings = _build(Settings, "", values)
    _check_together(settings, entries)
    check_external(settings.auth, entries)
    external = settings.auth.external
    if external.public_key_file and settings.auth.mode != "builtin":
        file = _locate(external.public_key_file, PUBLIC_KEY_KEY, path, entries)
        check_key_file(file, entries[PUBLIC_KEY_KEY].origin)
        external = msgspec.structs.replace(external, public_key_file=file)
    return msgspec.structs.replace(
        settings,
        data_dir=_locate(settings.data_dir, DATA_DIR_KEY, path, entries),
        auth=msgspec.structs.replace(settings.auth, external=external),
    )


def _locate(given: str, key: str, path: Path, entries: Mapping[str, Entry]) -> str:
    """The absolute path: `~` and `~user` are expanded, the rest is relative to the file's folder."""
    try:
        place = Path(given).expanduser()
    except RuntimeError:
        raise ConfigError(entries[key].origin, f"{key}: there is no such home folder") from None
    return str((path.resolve().parent / place).resolve())


def _build(section: type[SectionType], prefix: str, values: Mapping[str, object]) -> SectionType:
    given: dict[str, object] = {}
    for field in msgspec.structs.fields(section):
        key = prefix + field.name
        if isinstance(field.type, type) and issubclass(field.type, Section):
            given[field.name] = _build(field.type, key + ".", values)
        elif key in values:
            given[field.name] = values[key]
    return section(**given)


def _check_together(settings: Settings, entries: Mapping[str, Entry]) -> None:
    """Check settings that depend on each other. Raises `ConfigError` at the one that is not its default."""
    length, payload = settings.messages.max_length, settings.server.max_payload
    longest = length * ESCAPED_CHARACTER_BYTES + MESSAGE_OVERHEAD_BYTES
    if longest <= payload:
        return
    places = {key: entries[key].origin if key in entries else "the default" for key in (LENGTH_KEY, PAYLOAD_KEY)}
    if length != Messages().max_length:
        reason = f"{length} characters may take {longest} bytes of JSON, but {PAYLOAD_KEY} is {write_size(payload)}"
        raise ConfigError(places[LENGTH_KEY], f"{LENGTH_KEY}: {reason} ({places[PAYLOAD_KEY]})")
    reason = f"{write_size(payload)} is too small: the {length} characters of {LENGTH_KEY}"
    raise ConfigError(
        places[PAYLOAD_KEY], f"{PAYLOAD_KEY}: {reason} ({places[LENGTH_KEY]}) may take {longest} bytes of JSON"
    )
