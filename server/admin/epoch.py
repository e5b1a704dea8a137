"""`main.py epoch`: prints or replaces the epoch of a database; clients discard their state of an earlier epoch."""

from pathlib import Path
from typing import Final

from server.config.settings import Settings
from server.embedded import EMBEDDED, EmbeddedStores, StartFailed, check_has_mongodb
from server.errors import Unavailable
from server.storage.mongo.database import Database
from server.storage.mongo.identity import IdentityStore

PING_TIMEOUT: Final = 5.0


class EpochFailed(Exception):
    """The epoch was not read or changed; the text is one line with the reason."""


async def read_epoch(settings: Settings, *, new: bool) -> str:
    """Return the epoch of the configured database, replaced before if `new`. Raises `EpochFailed`.

    No server may run, as it keeps the epoch of its start; only one with the same `data_dir` is detected.
    """
    stores = EmbeddedStores()
    try:
        if settings.mongodb.uri == EMBEDDED:
            # First, because a start creates the folder.
            check_has_mongodb(Path(settings.data_dir))
        database = Database(await stores.start_mongodb(settings), settings.mongodb.database)
        try:
            if not await database.ping(PING_TIMEOUT):
                raise EpochFailed("the database does not answer, or does not accept the login")
            if not await database.run(database.list_collection_names):
                raise EpochFailed(
                    f"there is no database {settings.mongodb.database}; use the server's --config and --set"
                )
            identities = IdentityStore(database)
            found = await identities.open()
            return await identities.begin_epoch() if new else found.epoch
        finally:
            database.close()
    except StartFailed as error:
        raise EpochFailed(str(error)) from error
    except Unavailable as error:
        raise EpochFailed(error.detail) from error
    finally:
        await stores.stop()
