"""`main.py schema`: a JSON Schema of the configuration that editors can use."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from server.config.load import declared

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def schema() -> Any:
    command = [sys.executable, str(ROOT / "main.py"), "schema"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.fixture(scope="module")
def validator(schema: Any) -> Any:
    return jsonschema_rs.Draft202012Validator(schema)


def leaves(schema: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in schema["properties"].items():
        found |= leaves(field, f"{prefix}{name}.") if "properties" in field else {prefix + name: field}
    return found


def test_it_has_every_setting_with_its_meaning_and_default(schema: Any) -> None:
    found = leaves(schema)
    assert list(found) == [setting.key for setting in declared()]
    for setting in declared():
        field = found[setting.key]
        assert field["description"].startswith(setting.meaning)
        assert setting.read(field["default"]) == setting.default, setting.key


def test_the_file_that_we_ship_fits(validator: Any) -> None:
    assert validator.is_valid(yaml.safe_load((ROOT / "config.yaml").read_text()))
    assert validator.is_valid({}) and validator.is_valid({"log": None})


@pytest.mark.parametrize(
    "wrong",
    [
        {"servers": {}},
        {"server": {"ports": 1}},
        {"server": {"port": "3000"}},
        {"server": {"port": 70_000}},
        {"server": {"max_payload": "a lot"}},
        {"presence": {"grace": 5}},
        {"log": {"level": "LOUD"}},
        {"limits": {"enabled": "yes"}},
        {"cors": {"origins": "https://example.com"}},
        {"auth": {"external": {"issuers": ""}}},
        {"mongodb": {"database": 7}},
    ],
    ids=str,
)
def test_an_editor_marks_what_is_wrong(validator: Any, wrong: Any) -> None:
    assert not validator.is_valid(wrong)
