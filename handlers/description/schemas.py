"""JSON Schemas of the types that the server reads and writes, as both descriptions hold them."""

import re
from collections.abc import Collection
from inspect import cleandoc
from types import UnionType
from typing import Any, Final, get_args

import msgspec

from server.config.settings import Settings
from server.errors import ErrorView
from server.protocol import Outbound
from server.requests import SETTING

Schema = dict[str, Any]
PREFIX: Final = "#/components/schemas/"
# What they are called in the code; outside, a message is a message.
_SUFFIX: Final = "View"
_SNAKE_CASE: Final = re.compile(r"`[a-z]+(?:_[a-z]+)+`")


class Schemas:
    """The schemas of `kinds`: `of(kind)` is that of one of them, which refers to `components` by name.

    A struct that is written has all its fields as required but for those that may be left out.
    """

    def __init__(self, kinds: Collection[Any], settings: Settings) -> None:
        self._settings = settings
        known = list(dict.fromkeys(part for kind in kinds for part in _alternatives(kind)))
        schemas, components = msgspec.json.schema_components(known, ref_template=PREFIX + "{name}")
        written = {kind.__name__: kind for kind in _find_written(known)}
        for name, kind in written.items():
            _require_all(components[name], kind)
        self._by_kind: dict[Any, Schema] = {
            kind: self._finish(schema) for kind, schema in zip(known, schemas, strict=True)
        }
        self.components: dict[str, Schema] = {
            _public_name(name): self._finish(schema) for name, schema in sorted(components.items())
        }

    def of(self, kind: Any) -> Schema:
        schemas = [self._by_kind[part] for part in _alternatives(kind)]
        return schemas[0] if len(schemas) == 1 else {"oneOf": schemas}

    def fields_of(self, kind: type) -> Schema:
        """The object schema itself of a struct, whose fields may be left out for a caller."""
        return self.components[_public_name(kind.__name__)]

    def _finish(self, value: Any) -> Any:
        """With public names, camelCase in descriptions, and the values of settings."""
        if isinstance(value, dict):
            return {key: self._finish_entry(key, item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._finish(item) for item in value]
        if isinstance(value, str) and value.startswith(SETTING):
            return self._read_setting(value.removeprefix(SETTING))
        return value

    def _finish_entry(self, key: str, value: Any) -> Any:
        if key == "$ref":
            return PREFIX + _public_name(value.removeprefix(PREFIX))
        if key == "title" and isinstance(value, str):
            return _public_name(value)
        if key == "description" and isinstance(value, str):
            return _SNAKE_CASE.sub(lambda found: to_camel(found[0]), cleandoc(value))
        return self._finish(value)

    def _read_setting(self, key: str) -> Any:
        value: Any = self._settings
        for name in key.split("."):
            value = getattr(value, name)
        return value


def to_camel(name: str) -> str:
    """The name of a field as it is on the wire."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _public_name(name: str) -> str:
    return name.removesuffix(_SUFFIX)


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union: msgspec knows no union of untagged structs."""
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _require_all(schema: Schema, kind: type[msgspec.Struct]) -> None:
    if kind.__struct_config__.omit_defaults:
        return
    schema["required"] = [
        field.encode_name for field in msgspec.structs.fields(kind) if field.default is not msgspec.UNSET
    ]


def _find_written(kinds: Collection[Any]) -> list[type[msgspec.Struct]]:
    """All structs that these are made of and that go to clients."""
    found: dict[type[msgspec.Struct], None] = {}

    def visit(info: Any) -> None:
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls in found or not issubclass(info.cls, Outbound | ErrorView):
                return
            found[info.cls] = None
            for field in info.fields:
                visit(field.type)
        for part in _parts_of(info):
            visit(part)

    for kind in kinds:
        visit(msgspec.inspect.type_info(kind))
    return list(found)


def _parts_of(info: Any) -> list[Any]:
    parts = [getattr(info, name) for name in ("type", "item_type", "key_type", "value_type") if hasattr(info, name)]
    return [*parts, *getattr(info, "types", ()), *getattr(info, "item_types", ())]
