"""`main.py epoch`: prints or replaces the epoch of a database; clients discard their state of an earlier epoch."""

from server.admin.database import open_database
from server.config.settings import Settings
from server.storage.mongo.identity import IdentityStore


async def read_epoch(settings: Settings, *, new: bool) -> str:
    """Return the epoch of the configured database, replaced before if `new`. Raises `CommandFailed`.

    No server may run, as it keeps the epoch of its start.
    """
    async with open_database(settings) as database:
        identities = IdentityStore(database)
        found = await identities.open()
        return await identities.begin_epoch() if new else found.epoch
