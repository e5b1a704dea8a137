"""Opens the configured database for a command, while no server runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from server.config.settings import Settings
from server.embedded import EMBEDDED, EmbeddedStores, StartFailed, check_has_mongodb
from server.errors import Unavailable
from server.storage.mongo.database import Database

PING_TIMEOUT: Final = 5.0


class CommandFailed(Exception):
    """The command did nothing; the text is one line with the reason."""


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The database. Raises `CommandFailed`, also for what the body meets.

    Of a server that runs, only one with the same `data_dir` is detected.
    """
    stores = EmbeddedStores()
    try:
        if settings.mongodb.uri == EMBEDDED:
            # First, because a start creates the folder.
            check_has_mongodb(Path(settings.data_dir))
        database = Database(await stores.start_mongodb(settings), settings.mongodb.database)
        try:
            if not await database.ping(PING_TIMEOUT):
                raise CommandFailed("the database does not answer, or does not accept the login")
            if not await database.run(database.list_collection_names):
                raise CommandFailed(
                    f"there is no database {settings.mongodb.database}; use the server's --config and --set"
                )
            yield database
        finally:
            database.close()
    except StartFailed as error:
        raise CommandFailed(str(error)) from error
    except Unavailable as error:
        raise CommandFailed(error.detail) from error
    finally:
        await stores.stop()
