"""Warns if another server runs on the same database."""

import logging

from server.storage.mongo.servers import Servers

log = logging.getLogger(__name__)


class OtherServers:
    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._known: set[str] = set()

    async def look(self) -> None:
        """Write a heartbeat, and log an error for a server that was not seen before. Raises `Unavailable`."""
        found = await self._servers.find_others()
        if found - self._known:
            log.error("another server runs on this database: both show stale rooms and history; end all but one")
        self._known |= found
