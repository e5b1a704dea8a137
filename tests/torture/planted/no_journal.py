"""Planted: writes do not wait for the journal, and the embedded store does not sync on commit."""

from typing import Any

from pymongo.write_concern import WriteConcern

from server.embedded import mongodb
from server.storage.mongo import database
from tests.torture.planted import serve

command = mongodb._command


def command_without_sync(*arguments: Any) -> list[str]:
    return [word for word in command(*arguments) if word != "--sync-on-commit"]


if __name__ == "__main__":
    database.WriteConcern = lambda **_: WriteConcern(w=1, j=False)  # type: ignore[assignment,misc]
    mongodb._command = command_without_sync
    serve()
