"""Fan-out: the port through which services reach connected users."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from server.realtime.connection import Connection
from server.realtime.frames import Frame


class Delivered(NamedTuple):
    """A delivery: its number, higher than all before, and those of its users who have no connection."""

    number: int
    missed: Sequence[str]


class FanOut(Protocol):
    """Sends frames to every socket of users, as they are and without waiting. The hub does so within this server."""

    def is_connected(self, user_id: str) -> bool:
        """Whether the user has a connection, also one that is closing."""

    def send(self, user_ids: Iterable[str], frame: Frame, *, skip: Connection | None = None) -> None:
        """Send to every socket but `skip`."""

    def deliver(self, user_ids: Iterable[str], frame: Frame) -> Delivered:
        """Send a message, to be confirmed by the connections that it goes to.

        A closing connection counts too: the message is unconfirmed when it ends, and so is queued behind earlier
        unconfirmed ones instead of overtaking them.
        """

    def emit(self, user_ids: Iterable[str], event: str, payload: Any, *, skip: Connection | None = None) -> None:
        """Encode one event and send it to every socket but `skip`."""
