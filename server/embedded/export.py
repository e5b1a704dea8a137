"""Streams the documents of an embedded database while no server uses it."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

import bson

from server.embedded.children import StartFailed, end_orphan, end_process, spawn
from server.embedded.mongodb import NAME, check_files
from server.embedded.mongodb_export import COLLECTION, DOCUMENT, END

LENGTH_BYTES: Final = 4  # every BSON document begins with its own length


def check_has_mongodb(data: Path) -> None:
    """Raise `StartFailed` if no embedded MongoDB was ever started in `data`. Creates nothing."""
    folder = data / NAME
    if not folder.is_dir() or not any(folder.iterdir()):
        raise StartFailed(f"there is no embedded database in {data}")


async def export_mongodb(data: Path, database: str) -> AsyncGenerator[tuple[str, bytes | None], None]:
    """All documents as `(collection, BSON)`; `(collection, None)` comes first, also for an empty collection.

    The caller must have locked `data`. Raises `StartFailed` if the export is incomplete.
    """
    lock, log_file, folder = data / "run" / NAME, data / "log" / f"{NAME}.log", data / NAME
    await end_orphan(NAME, lock)
    check_files(folder)
    script = Path(__file__).with_name("mongodb_export.py")
    command = [sys.executable, "-P", str(script), str(folder), database]
    process = await spawn(command, lock=lock, log_file=log_file, output=asyncio.subprocess.PIPE)
    reader = process.stdout
    if reader is None:
        raise StartFailed("the embedded database cannot be read")
    collection = ""
    try:
        while (kind := await reader.readexactly(1)) != END:
            document = await _read_document(reader)
            if kind == COLLECTION:
                collection = bson.decode(document)["name"]
                yield collection, None
            elif kind == DOCUMENT:
                yield collection, document
        if await process.wait() != 0:
            raise StartFailed(f"the embedded database could not be closed; see {log_file}")
    except asyncio.IncompleteReadError:
        raise StartFailed(f"the embedded database could not be read to its end; see {log_file}") from None
    finally:
        await end_process(process)


async def _read_document(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(LENGTH_BYTES)
    return head + await reader.readexactly(int.from_bytes(head, "little") - LENGTH_BYTES)
