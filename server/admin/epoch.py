"""Names the history of a database anew, so that clients throw away what they hold of the one before."""

from pathlib import Path
from typing import Final

from server.config.settings import Settings
from server.embedded import EMBEDDED, EmbeddedStores, StartFailed, check_has_mongodb
from server.errors import Unavailable
from server.storage.mongo.database import Database
from server.storage.mongo.identity import IdentityStore

PING_TIMEOUT: Final = 5.0


class NotNamed(Exception):
    """Nothing was changed; the text says why in one line."""


async def read_epoch(settings: Settings, *, new: bool) -> str:
    """The name of the history in the configured database, or a `new` one from now on. Raises `NotNamed`.

    A server that runs keeps the name that it has read at its start; one in the same `data_dir` is noticed.
    """
    stores = EmbeddedStores()
    try:
        if settings.mongodb.uri == EMBEDDED:
            # First, because a start makes the folder that it is given.
            check_has_mongodb(Path(settings.data_dir))
        database = Database(await stores.start_mongodb(settings), settings.mongodb.database)
        try:
            if not await database.ping(PING_TIMEOUT):
                raise NotNamed("the database does not answer, or does not accept the login")
            if not await database.run(database.list_collection_names):
                raise NotNamed(f"there is no database {settings.mongodb.database}; use the server's --config and --set")
            identities = IdentityStore(database)
            found = await identities.open()
            return await identities.begin_epoch() if new else found.epoch
        finally:
            database.close()
    except StartFailed as error:
        raise NotNamed(str(error)) from error
    except Unavailable as error:
        raise NotNamed(error.detail) from error
    finally:
        await stores.stop()
