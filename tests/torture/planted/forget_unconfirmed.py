"""Planted: what was written to a connection counts as delivered, whether it arrives or not."""

from typing import Any

from server.services.delivery.unconfirmed import Unconfirmed
from tests.torture.planted import serve


def note_nothing(_self: Unconfirmed, *_delivery: Any) -> None:
    """Takes what was written for delivered."""


if __name__ == "__main__":
    Unconfirmed.add = note_nothing  # type: ignore[method-assign]
    serve()
