"""Whom a log entry is about: set where a request or an event begins, and read by every entry that follows."""

from contextvars import ContextVar
from typing import Final

# Each is empty where it does not apply: all of them for the server's own work.
REQUEST: Final[ContextVar[str]] = ContextVar("request", default="")
CONNECTION: Final[ContextVar[str]] = ContextVar("connection", default="")
USER: Final[ContextVar[str]] = ContextVar("user", default="")


def note_caller(user_id: str, connection_id: str = "") -> None:
    """What this task logs from now on is about this user, and the connection if it is a socket's."""
    USER.set(user_id)
    CONNECTION.set(connection_id)
