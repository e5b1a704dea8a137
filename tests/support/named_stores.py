"""Stores that a run of the tests was given by name: `make test-stores MONGODB=mongodb://… REDIS=redis://…`.

Every server of the run gets a database of its own there, and keys of its own with it. They are removed afterwards;
nothing else is touched.
"""

import hashlib
import os
import secrets
from pathlib import Path

import pymongo
import redis

from server.storage.stores import redis_prefix

MONGODB = os.environ.get("TEST_MONGODB", "")
REDIS = os.environ.get("TEST_REDIS", "")
# Tells one run's databases from another's on the same servers.
RUN = f"madang_test_{secrets.token_hex(4)}"
KEYS_PER_CALL = 500


def named_stores(folder: Path) -> dict[str, object]:
    """The settings that lead a server with its data in `folder` to the named stores; none where none are named."""
    settings: dict[str, object] = {}
    if MONGODB or REDIS:
        settings["mongodb.database"] = f"{RUN}_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    if MONGODB:
        settings["mongodb.uri"] = MONGODB
    if REDIS:
        settings["redis.url"] = REDIS
    return settings


def remove_all() -> None:
    """Remove what this run has made in the named stores."""
    if MONGODB:
        with pymongo.MongoClient[dict[str, object]](MONGODB) as client:
            for name in client.list_database_names():
                if name.startswith(RUN):
                    client.drop_database(name)
    if REDIS:
        with redis.Redis.from_url(REDIS) as store:
            keys = list(store.scan_iter(f"{redis_prefix(RUN)}*", count=KEYS_PER_CALL))
            for start in range(0, len(keys), KEYS_PER_CALL):
                store.delete(*keys[start : start + KEYS_PER_CALL])
