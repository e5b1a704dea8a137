"""Planted: a start after a crash does not look for messages that were stored but not delivered."""

from server.services.room_log.recovery import Recovery
from tests.torture.planted import serve


async def recover_nothing(_self: Recovery) -> None:
    """Leaves everything as the crash left it."""


if __name__ == "__main__":
    Recovery.recover = recover_nothing  # type: ignore[method-assign]
    serve()
