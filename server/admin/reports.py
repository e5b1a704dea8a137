"""`main.py reports`: prints the reported messages, each as a line of JSON, the latest first."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from server.admin.database import open_database
from server.config.settings import Settings
from server.protocol import wire_time
from server.storage.mongo.reports import ReportStore


async def print_reports(settings: Settings, limit: int, say: Callable[[str], None]) -> None:
    """Say the latest `limit` reports. Raises `CommandFailed`."""
    async with open_database(settings) as database:
        for report in await ReportStore(database).find(limit):
            say(msgspec.json.encode({name: _plain(value) for name, value in report.items()}).decode())


def _plain(value: Any) -> Any:
    return wire_time(value) if isinstance(value, datetime) else value
