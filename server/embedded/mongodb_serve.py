"""Runs the embedded store (`secantusd-py`) with six patches: `python -P mongodb_serve.py USER PASSWORD_FILE OPTION…`.

The user is created at the first start. A password on the command line would be visible to every user of the machine.

They make the start time independent of the data size, detect a log that cannot be written, reduce garbage collection,
read index options once per bulk insert, use indexes for the branches of an `$or`, and stop without a pause.
"""

import contextlib
import gc
import hashlib
import socket
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from secantus import storage
from secantus.auth import derive_credentials
from secantus.cli import main
from secantus.server import SecantusDBServer

# The patches replace private functions of this version, and could do harm in another.
PATCHED_VERSION = "0.7.0b3"
LOWEST = -(2**63)
IndexOptions = dict[str, dict[str, Any]]  # by the index's name
# A garbage collection over all objects of the store takes tens of milliseconds, in which nothing is stored.
GC_THRESHOLDS = (100_000, 50, 1_000)


def find_last_record(self: storage.Storage) -> int:
    """The highest record number of all collections, or 0. One index lookup per collection.

    The store needs it at its start to number new records. The original scans all records, 20 s per million. Numbers
    are ascending within a collection, so its last record is enough.
    """
    highest = 0
    for shard in range(storage._DOC_SHARDS):
        cursor = self._cursor_optional(storage._doc_shard_name(shard))
        if cursor is None:
            continue
        cursor.reset()
        is_found = cursor.prev() == 0
        while is_found:
            database, collection, number = cursor.get_key()
            highest = max(highest, int(number))
            cursor.set_key(database, collection, LOWEST)
            # It finds the first record of the collection, or the one before it, the last of another collection.
            is_found = cursor.search_near() < 0 or cursor.prev() == 0
        cursor.reset()
    return highest


READ_INDEX_OPTIONS = storage.Storage._index_options_map
INSERT_CHUNK = storage.Storage._insert_chunk.__wrapped__


def insert_chunk(self: storage.Storage, *arguments: Any, **options: Any) -> Any:
    """Insert documents of one collection, in one transaction and under the lock of the collection.

    Its indexes cannot change meanwhile, so their options are cached. The original reads them three times per document,
    a third of the insert time.
    """
    self._tls.index_options = {}
    try:
        return INSERT_CHUNK(self, *arguments, **options)
    finally:
        del self._tls.index_options


def read_index_options(self: storage.Storage, database: str, collection: str) -> IndexOptions:
    """The options of all indexes of a collection, cached during an insert."""
    cached: IndexOptions | None = getattr(self._tls, "index_options", None)
    if cached:
        return cached
    found: IndexOptions = READ_INDEX_OPTIONS(self, database, collection)
    if cached is not None:
        cached.update(found)
    return found


FIND_BY_INDEX = storage.Storage._try_index_id_keys


def find_by_index(
    self: storage.Storage, database: str, collection: str, query: dict[str, Any], *, collation: Any = None
) -> list[Any] | None:
    """The locations of candidate documents for a query, or None if it needs a full scan.

    The original scans for every `$or`; this uses indexes if each branch has one.
    """
    if query.keys() != {"$or"}:
        found: list[Any] | None = FIND_BY_INDEX(self, database, collection, query, collation=collation)
        return found
    locations: list[Any] = []
    for branch in query["$or"]:
        found = find_by_index(self, database, collection, branch, collation=collation)
        if found is None:
            return None
        locations += found
    # The store removes duplicates, and matches each candidate against the whole query.
    return locations


COMMIT_BATCH = storage._commit_batch_transaction


def commit_and_flush(session: Any, sync: bool) -> None:
    """Fail if the log could not be written: the first commit on a full disk reports success.

    A flush of the log fails then, and costs nothing if the log was written.
    """
    COMMIT_BATCH(session, sync)
    session.log_flush("sync=on")


STOP = SecantusDBServer.stop


def stop(self: SecantusDBServer) -> None:
    """Stop, and end the thread that waits for connections first.

    On Linux, closing a socket does not wake the thread that waits on it, so the original gives up after two seconds.
    """
    if self._socket is not None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
    STOP(self)


def make_user(folder: Path, user: str, password: str) -> None:
    """Create the user, once per folder and password. The marker is written last, so that a cut run is repeated."""
    marker, fingerprint = folder / "madang-user", hashlib.sha256(password.encode()).hexdigest()
    if marker.exists() and marker.read_text() == fingerprint:
        return
    opened = storage.Storage(str(folder), enable_oplog=False)
    record = {
        "_id": f"admin.{user}",
        "user": user,
        "db": "admin",
        "credentials": dict(derive_credentials(password, username=user).to_doc()),
        "roles": [{"role": "root", "db": "admin"}],
        "mechanisms": ["SCRAM-SHA-256"],
    }
    opened.add_user("admin", user, record, replace=True)
    opened.close()
    marker.write_text(fingerprint)


def check_version(found: str) -> None:
    """Exit unless this is the version that the patches were written for."""
    if found != PATCHED_VERSION:
        sys.exit(f"SecantusDB {found} is installed, and this server needs {PATCHED_VERSION}: run make setup")


if __name__ == "__main__":
    check_version(version("SecantusDB"))
    storage._commit_batch_transaction = commit_and_flush
    storage.Storage._scan_max_nat_seq = find_last_record
    storage.Storage._index_options_map = read_index_options
    storage.Storage._try_index_id_keys = find_by_index
    # Retried from its beginning after a write conflict.
    storage.Storage._insert_chunk = storage._retry_write_conflicts(insert_chunk)
    SecantusDBServer.stop = stop
    user, password_file, *options = sys.argv[1:]
    make_user(Path(options[options.index("--storage-path") + 1]), user, Path(password_file).read_text("utf-8").strip())
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.exit(main(options))
