"""What Madang needs of an Engine.IO session beyond what its library offers, in one place that a test watches over."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

# python-engineio's client refuses a payload of more packets than this, and drops its connection with it.
PACKETS_PER_POLL: Final = 16


def bound_polls(engine_socket: Any) -> None:
    """Answer each poll with few enough packets for every client; the rest waits for the next poll."""
    poll = engine_socket.poll
    rest: deque[Any] = deque()

    async def poll_some() -> list[Any]:
        if not rest:
            rest.extend(await poll())
        count = len(rest) if engine_socket.upgraded else min(len(rest), PACKETS_PER_POLL)
        return [rest.popleft() for _ in range(count)]

    engine_socket.poll = poll_some


def watch_pongs(engine_socket: Any, on_pong: Callable[[float], None]) -> None:
    """Call `on_pong` at every PONG with the time at which its PING was sent."""
    # The library calls this on every PONG, with the time of the PING still in `last_ping`.
    schedule_ping = type(engine_socket).schedule_ping

    def schedule_and_tell() -> None:
        sent_at = engine_socket.last_ping
        schedule_ping(engine_socket)
        if sent_at is not None:
            on_pong(sent_at)

    engine_socket.schedule_ping = schedule_and_tell


def unwatch_pongs(engine_socket: Any) -> None:
    """Let another connection on the same session watch in its turn."""
    vars(engine_socket).pop("schedule_ping", None)
