"""Accounts that an administrator has deactivated, in the embedded database of a server that is stopped."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pymongo

from server.config.settings import Settings
from tests.support.own_stores import stores_in


async def deactivate(data_dir: Path, user_id: str) -> None:
    async with users_database(data_dir) as database:
        assert database.users.update_one({"_id": user_id}, {"$set": {"isActive": False}}).matched_count == 1


@contextlib.asynccontextmanager
async def users_database(data_dir: Path) -> AsyncIterator[Any]:
    """The embedded database of a server that is stopped."""
    async with stores_in(data_dir) as addresses:
        with pymongo.MongoClient[dict[str, Any]](addresses.mongodb_uri) as client:
            yield client[Settings().mongodb.database]
