"""The embedded store's own command, `secantusd-py`, with five corrections.

It starts as fast with much data as with little, notices a log that cannot be written, collects garbage less often,
reads the options of indexes once for each insert of many documents, and looks up the branches of an `$or` by index.
Run as `python -P mongodb_serve.py OPTION…`.
"""

import gc
import sys
from typing import Any

from secantus import storage
from secantus.cli import main

LOWEST = -(2**63)
IndexOptions = dict[str, dict[str, Any]]  # by the index's name
# Looking for garbage among all that a store holds takes tens of milliseconds, in which nothing is stored.
GC_THRESHOLDS = (100_000, 50, 1_000)


def find_last_record(self: storage.Storage) -> int:
    """The highest record number of all collections, 0 where there is none; one look at each collection.

    By this the store knows at its start which number the next record gets. It would walk over every record, 20 s for a
    million. The numbers of a collection are in order, so that its last record tells as much as all of them.
    """
    highest = 0
    for shard in range(storage._DOC_SHARDS):
        cursor = self._cursor_optional(storage._doc_shard_name(shard))
        if cursor is None:
            continue
        cursor.reset()
        is_there = cursor.prev() == 0
        while is_there:
            database, collection, number = cursor.get_key()
            highest = max(highest, int(number))
            cursor.set_key(database, collection, LOWEST)
            # It lands on the collection's first record, or on the one before, which is the last of another collection.
            is_there = cursor.search_near() < 0 or cursor.prev() == 0
        cursor.reset()
    return highest


READ_INDEX_OPTIONS = storage.Storage._index_options_map
INSERT_CHUNK = storage.Storage._insert_chunk.__wrapped__


def insert_chunk(self: storage.Storage, *arguments: Any, **options: Any) -> Any:
    """Insert documents of one collection, in one transaction and under the collection's lock.

    No index of it can change meanwhile, and the store takes the list of its indexes once. But it would read their
    options three times for each document, which is a third of the time that an insert takes.
    """
    self._tls.index_options = {}
    try:
        return INSERT_CHUNK(self, *arguments, **options)
    finally:
        del self._tls.index_options


def read_index_options(self: storage.Storage, database: str, collection: str) -> IndexOptions:
    """The options of every index of a collection."""
    known: IndexOptions | None = getattr(self._tls, "index_options", None)
    if known:
        return known
    found: IndexOptions = READ_INDEX_OPTIONS(self, database, collection)
    if known is not None:
        known.update(found)
    return found


FIND_BY_INDEX = storage.Storage._try_index_id_keys


def find_by_index(
    self: storage.Storage, database: str, collection: str, query: dict[str, Any], *, collation: Any = None
) -> list[Any] | None:
    """Where the documents are that a query may match, or None where it has to read all of them.

    The store would do that for every `$or`; here, if each of its branches has an index, these are asked.
    """
    if query.keys() != {"$or"}:
        found: list[Any] | None = FIND_BY_INDEX(self, database, collection, query, collation=collation)
        return found
    places: list[Any] = []
    for branch in query["$or"]:
        found = find_by_index(self, database, collection, branch, collation=collation)
        if found is None:
            return None
        places += found
    # Each place counts once, and every document found is held against the whole query.
    return places


COMMIT_BATCH = storage._commit_batch_transaction


def commit_and_look(session: Any, sync: bool) -> None:
    """Fail where the log could not be written: the first commit that finds the disk full says that all is well.

    Its successor fails, and so does asking for the log to be flushed, which costs nothing where it was.
    """
    COMMIT_BATCH(session, sync)
    session.log_flush("sync=on")


if __name__ == "__main__":
    storage._commit_batch_transaction = commit_and_look
    storage.Storage._scan_max_nat_seq = find_last_record
    storage.Storage._index_options_map = read_index_options
    storage.Storage._try_index_id_keys = find_by_index
    # Tried again from its beginning, where it met another writer.
    storage.Storage._insert_chunk = storage._retry_write_conflicts(insert_chunk)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.exit(main())
