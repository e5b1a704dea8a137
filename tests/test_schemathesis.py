"""Cases that schemathesis makes of the OpenAPI document: no 5xx, and nothing that the document does not say.

`SCHEMATHESIS_CASES=10000 python -m pytest tests/test_schemathesis.py` tries about so many cases.
"""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import NO_LIMITS, serve
from tests.support import groups
from tests.support.contract import documents
from tests.support.issuer import ALSO_EXTERNAL, granted_person
from tests.support.people import Town
from tests.support.rest import API
from tests.support.server_process import ServerProcess

OPERATIONS = sum(map(len, documents()[0]["paths"].values()))
SUITE_CASES = 10 * OPERATIONS
CASES = int(os.environ.get("SCHEMATHESIS_CASES", SUITE_CASES))
DEADLINE = 3_600.0
# Of what is printed: cases can be very long.
LONGEST_LINE = 500
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    yield from serve(tmp_path_factory.mktemp("open_server"), {**NO_LIMITS, **ALSO_EXTERNAL})


class Known(NamedTuple):
    """What is there: somebody who may do everything, with a group and a message."""

    token: str
    ids: dict[str, str]


@pytest.fixture(scope="module")
def known(open_server: ServerProcess) -> Known:
    async def settle() -> Known:
        town = Town(open_server.url)
        owner, member = await granted_person(town), await town.person()
        room_id = await groups.make(owner, member)
        message = await owner.send(room_id)
        await town.close()
        return Known(owner.access_token, {"roomId": room_id, "messageId": message["messageId"], "userId": member.id})

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, settle()).result()


@pytest.mark.parametrize("is_there", [False, True], ids=["made up", "there"])
def test_no_case_finds_anything(open_server: ServerProcess, known: Known, tmp_path: Path, is_there: bool) -> None:
    """With ids that are made up, and with those of a group in which the caller may do everything."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{open_server.url}{API}/openapi.json"]
    command += ["--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--mode", "all"]
    command += ["--max-examples", str(1 + CASES // OPERATIONS), "--workers", "2", "--no-color"]
    # The server may close an idle connection in the moment in which the next request begins.
    command += ["--request-retries", "2", "--header", f"Authorization: Bearer {known.token}"]
    # Some operations leave it little to vary.
    command += ["--generation-database", "none", "--suppress-health-check", "all"]
    if is_there:
        lines = [f'"path.{name}" = "{value}"' for name, value in known.ids.items()]
        (tmp_path / "schemathesis.toml").write_text("\n".join(["[parameters]", *lines]))
        command += ["--exclude-method", "DELETE"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE, check=False)
    printed = "\n".join(line[:LONGEST_LINE] for line in (done.stdout + done.stderr).splitlines())
    assert done.returncode == 0, printed
    found = re.search(r"([\d,]+) generated", done.stdout)
    assert found is not None and int(found[1].replace(",", "")) >= CASES // 2, printed
