"""Planted: a start after a crash does not look for messages that were stored but not delivered."""

from server.services.recovery import Recovery
from tests.torture.planted import serve


async def mend_nothing(_self: Recovery) -> None:
    """Leaves everything as the crash left it."""


if __name__ == "__main__":
    Recovery.mend = mend_nothing  # type: ignore[method-assign]
    serve()
