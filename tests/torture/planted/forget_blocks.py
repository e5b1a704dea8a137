"""Planted: blocks are in memory only, and a restart forgets them."""

from typing import Any

from server.storage.mongo.blocks import BlockStore
from tests.torture.planted import serve


async def put_nothing(_self: BlockStore, _blocker_id: str, _blocked_id: str, **_options: Any) -> None:
    """Stores nothing."""


if __name__ == "__main__":
    BlockStore.put = put_nothing  # type: ignore[method-assign]
    serve()
