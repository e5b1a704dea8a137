"""Exports all documents of the embedded store to standard output, offline, one document in memory at a time.

Run as `python -P mongodb_export.py STORAGE_FOLDER DATABASE`, while no server uses the folder. Output format:

    C <BSON {name}>    a collection begins
    D <BSON>           one of its documents, as stored
    E                  the end; without it the export is incomplete

The wire protocol is not used, because the store reads a whole collection into memory for every cursor.
"""

import os
import sys
from typing import BinaryIO

import bson

COLLECTION = b"C"
DOCUMENT = b"D"
END = b"E"


def main(folder: str, database: str, output: BinaryIO) -> None:
    # Local import: `export.py` imports the constants above, and the store takes long to load.
    from secantus.storage import Storage

    storage = Storage(folder, enable_oplog=False)
    for name in sorted(storage.list_collections(database)):
        if name.startswith("system."):
            continue
        output.write(COLLECTION + bson.encode({"name": name}))
        # Private, because the public scans return lists.
        for _record_id, _id_key, document in storage._scan_docs(database, name):
            output.write(DOCUMENT + document)
    output.write(END)
    output.flush()
    storage.close()


if __name__ == "__main__":
    # Standard output is redirected to the log, so that the store prints nothing among the documents.
    stream = os.fdopen(os.dup(1), "wb", buffering=1024 * 1024)
    os.dup2(2, 1)
    main(sys.argv[1], sys.argv[2], stream)
