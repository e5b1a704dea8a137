"""The dashboard and the alert rules: they ask for metrics that there are, in words that Prometheus understands."""

import json
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.metrics import READ
from tests.test_metrics import COUNTED, COUNTERS

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "monitoring"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
RULES = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
EXPOSED = {one.name + ("_total" if one.is_counter else "") for one in READ}
EXPOSED |= {f"{name}_{part}" for name in COUNTED - COUNTERS for part in ("bucket", "count", "sum")} | COUNTERS


def find_metrics(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:madang|process)_\w+", expression))


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        reason = "promtool is not installed (Debian: apt install prometheus)"
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"THE ALERT RULES WERE NOT CHECKED BY PROMETHEUS: {reason}", stacklevel=1)
        pytest.skip(reason)
    return found


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_ask_for_what_there_is() -> None:
    for expression in (*EXPRESSIONS, *(rule["expr"] for rule in ALERTS)):
        asked = {name for name in find_metrics(expression) if name.startswith("madang")}
        assert asked <= EXPOSED, expression


def test_the_dashboard_shows_everything_that_there_is() -> None:
    asked = set().union(*map(find_metrics, EXPRESSIONS))
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked}
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in EXPOSED} <= families


def test_the_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = set(_cells(place))
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def _cells(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(place["x"], place["x"] + place["w"]):
        for y in range(place["y"], place["y"] + place["h"]):
            yield x, y


def test_prometheus_takes_the_rules(promtool: str) -> None:
    run(promtool, "check", "rules", "alerts.yaml")


def test_the_alerts_come_when_they_should_and_not_before(promtool: str) -> None:
    run(promtool, "test", "rules", "alerts.test.yaml")


def test_prometheus_takes_the_expressions_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    """As rules that record them, with the variables of Grafana filled in."""
    rules: list[dict[str, Any]] = []
    for number, expression in enumerate(EXPRESSIONS):
        filled = expression.replace("$__rate_interval", "5m").replace("$instance", ".*")
        assert "$" not in filled, expression
        rules.append({"record": f"panel:{number}", "expr": filled})
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    run(promtool, "check", "rules", str(file))
