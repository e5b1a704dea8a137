"""Runs the checks of a store (`check --stores`) and grades what they find."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 15.0


class Grade(Enum):
    """`DIFFERS` breaks a guarantee of the server; a `NOTE` is a weakness that breaks none."""

    OK = "ok"
    NOTE = "note"
    DIFFERS = "DIFFERS"


class Finding(NamedTuple):
    """The outcome of one check, to be printed."""

    store: str
    subject: str
    grade: Grade
    detail: str = ""


class Differs(Exception):
    """The store does not do what the server requires."""


# Returns a note, or an empty string. Raises `Differs`.
Check = Callable[[], Awaitable[str]]


async def run_checks(store: str, checks: Mapping[str, Check]) -> list[Finding]:
    """Run the checks in order; stop after the first one if it fails, as the store does not answer then.

    An unexpected exception counts as a difference.
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
            log.debug("check failed store=%s subject=%s", store, subject, exc_info=True)
            first = (str(error).splitlines() or [""])[0][:200]
            findings.append(Finding(store, subject, Grade.DIFFERS, f"{type(error).__name__}: {first}"))
    return findings
