"""The dashboard and the alert rules: they ask for metrics that there are, in words that Prometheus understands."""

import contextlib
import json
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from tornado.httpclient import AsyncHTTPClient, HTTPClientError

from server.metrics import READ
from tests.conftest import StartServer
from tests.support.people import Town
from tests.support.ports import free_port
from tests.support.rest import MESSAGES
from tests.support.waiting import eventually
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
    return find_or_skip("promtool")


@pytest.fixture(scope="module")
def prometheus() -> str:
    return find_or_skip("prometheus")


def find_or_skip(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        reason = f"{program} is not installed (Debian: apt install prometheus)"
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"DASHBOARD AND ALERTS WERE NOT CHECKED BY PROMETHEUS: {reason}", stacklevel=1)
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


@contextlib.contextmanager
def run_prometheus(program: str, folder: Path, target: str) -> Iterator[str]:
    """A Prometheus that reads the server's metrics every second. Its address."""
    jobs = [{"job_name": "madang", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}]
    config, port = folder / "prometheus.yml", free_port()
    config.write_text(yaml.safe_dump({"scrape_configs": jobs, "rule_files": [str(FOLDER / "alerts.yaml")]}))
    place = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    command = [program, *place, f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with subprocess.Popen(command) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


async def test_every_panel_shows_a_server_that_is_used(
    prometheus: str, start_server: StartServer, town_at: Any, tmp_path: Path
) -> None:
    server = start_server({"limits.enabled": True, "limits.messages": 1, "limits.messages_burst": 1})
    town: Town = town_at(server)
    one, other, room_id = await town.pair()
    await other.connect()
    await one.connect(["polling"])
    with run_prometheus(prometheus, tmp_path, server.url.removeprefix("http://")) as address:
        client, empty = AsyncHTTPClient(force_instance=True), set(EXPRESSIONS)

        async def is_shown() -> bool:
            # Some of them are refused by the limit, which is a panel too.
            for number in range(3):
                await one.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": f"{number}"})
            for expression in sorted(empty):
                query = expression.replace("$__rate_interval", "10s").replace("$instance", ".*")
                url = f"{address}/api/v1/query?{urlencode({'query': query})}"
                # It may still be starting.
                with contextlib.suppress(HTTPClientError, OSError):
                    if json.loads((await client.fetch(url)).body)["data"]["result"]:
                        empty.discard(expression)
            return not empty

        await eventually(is_shown, "every panel has something to show", 60.0)
        client.close()
