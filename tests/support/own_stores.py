"""Stores that outlive the servers of a test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from server.config.settings import Settings
from server.embedded import Addresses, EmbeddedStores


@asynccontextmanager
async def stores_in(folder: Path) -> AsyncIterator[Addresses]:
    """Embedded stores of the test's own, e.g. to be given to two servers by address."""
    stores = EmbeddedStores()
    try:
        yield await stores.start(Settings(data_dir=str(folder)))
    finally:
        await stores.stop()
