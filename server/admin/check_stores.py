"""`main.py check --stores`: checks the configured stores for the features that the server requires."""

from collections.abc import Callable
from typing import Final

from server.config.settings import Settings
from server.embedded import EmbeddedStores
from server.storage.findings import Finding, Grade
from server.storage.mongo.check import check_mongodb
from server.storage.redis.check import check_redis
from server.storage.stores import redis_prefix

_WIDTH: Final = 52  # the longest subject


async def check_stores(settings: Settings, say: Callable[[str], None]) -> bool:
    """Print one line per check through `say`. Returns True if no finding is `DIFFERS`.

    Embedded stores are started for it, which needs an exclusive lock on `data_dir`. Raises `StartFailed`.
    """
    stores = EmbeddedStores()
    addresses = await stores.start(settings)
    try:
        database = settings.mongodb.database
        findings = await check_mongodb(addresses.mongodb_uri, database)
        findings += await check_redis(addresses.redis_url, redis_prefix(database))
    finally:
        await stores.stop()
    for finding in findings:
        say(_line(finding))
    return all(finding.grade is not Grade.DIFFERS for finding in findings)


def _line(finding: Finding) -> str:
    subject = f"{finding.store}: {finding.subject}"
    return f"{subject:{_WIDTH}} {finding.grade.value:7} {finding.detail}".rstrip()
