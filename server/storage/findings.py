"""What a check of a store finds: as the server needs it, different, or worth knowing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 15.0


class Grade(Enum):
    """`DIFFERS` breaks a promise of the server; a `NOTE` is weaker or slower than it could be."""

    OK = "ok"
    NOTE = "note"
    DIFFERS = "DIFFERS"


class Finding(NamedTuple):
    """The outcome of one check, for people."""

    store: str
    subject: str
    grade: Grade
    detail: str = ""


class Differs(Exception):
    """The store does not do what the server relies on."""


# Returns what is worth knowing, or an empty string; raises `Differs`.
Check = Callable[[], Awaitable[str]]


async def run_checks(store: str, checks: Mapping[str, Check]) -> list[Finding]:
    """Run the checks one after the other; only the first one where that finds a store that does not answer.

    One that fails in an unforeseen way has found a difference too.
    """
    findings: list[Finding] = []
    for subject, check in checks.items():
        if [finding.grade for finding in findings] == [Grade.DIFFERS]:
            break
        try:
            detail = await asyncio.wait_for(check(), CHECK_SECONDS)
            findings.append(Finding(store, subject, Grade.NOTE if detail else Grade.OK, detail))
        except Differs as difference:
            findings.append(Finding(store, subject, Grade.DIFFERS, str(difference)))
        except Exception as error:
            log.debug("check of %s: %s", store, subject, exc_info=True)
            first = (str(error).splitlines() or [""])[0][:200]
            findings.append(Finding(store, subject, Grade.DIFFERS, f"{type(error).__name__}: {first}"))
    return findings
