"""Which settings can change while the server runs, and what a changed configuration does to them."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from server.config.load import declared
from server.config.settings import Section, Settings

# Settings, and sections as a whole, that are read anew for every use. The others are built into something at the start.
LIVE: Final = (
    "auth.external.algorithms",
    "auth.external.audience",
    "auth.external.claims",
    "auth.external.issuer",
    "auth.external.leeway",
    "auth.external.public_key_file",
    "auth.external.secret",
    "auth.registration",
    "auth.user_types",
    "cors",
    "limits",
    "log",
    "messages.edit_window",
    "metrics",
    "offline_queue.retention",
    "profiles",
    "web",
)


class Reload(NamedTuple):
    """The settings from now on, the names of those that have changed, and of those that change with a restart."""

    settings: Settings
    changed: Sequence[str]
    needs_restart: Sequence[str]


def is_live(key: str) -> bool:
    return any(key == live or key.startswith(f"{live}.") for live in LIVE)


def apply_changes(old: Settings, new: Settings) -> Reload:
    """What becomes of a server with the settings `old` that is given `new` ones."""
    different = [setting.key for setting in declared() if _read(old, setting.key) != _read(new, setting.key)]
    changed = [key for key in different if is_live(key)]
    settings: Any = old
    for key in changed:
        settings = _replace(settings, key.split("."), _read(new, key))
    return Reload(settings, changed, [key for key in different if not is_live(key)])


def _read(settings: Settings, key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _replace(section: Section, path: Sequence[str], value: Any) -> Section:
    name, *rest = path
    inner = _replace(getattr(section, name), rest, value) if rest else value
    return msgspec.structs.replace(section, **{name: inner})
