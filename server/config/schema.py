"""JSON Schema of the configuration file, for editors."""

from typing import Any

from server.config.types import Declaration


def describe_settings(settings: list[Declaration]) -> dict[str, Any]:
    """A schema (2020-12) that has every setting with its meaning, bounds and default, and no other."""
    root: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of Madang",
        **_section(),
    }
    for setting in settings:
        *heads, name = setting.key.split(".")
        place = root
        for head in heads:
            place = place["properties"].setdefault(head, _section())
        bounds = f" ({setting.kind.bounds})" if setting.kind.bounds else ""
        place["properties"][name] = {
            "description": setting.meaning + bounds,
            "default": setting.kind.plain(setting.default),
            **setting.kind.schema,
        }
    return root


def _section() -> dict[str, Any]:
    # A section without settings is written as null.
    return {"type": ["object", "null"], "additionalProperties": False, "properties": {}}
