"""What sockets watch beyond what they hear anyway: people whose presence they ask for, and crowded rooms."""

from collections.abc import Collection, Container, Iterable

from server.realtime.connection import Connection
from server.realtime.frames import Frame


class Watchers:
    """Which connections watch which keys. A connection that is closed must be forgotten."""

    def __init__(self) -> None:
        self._by_key: dict[str, set[Connection]] = {}
        self._by_connection: dict[Connection, set[str]] = {}

    def watch(self, connection: Connection, keys: Iterable[str]) -> None:
        """Watch these keys, in place of those before."""
        self.forget(connection)
        for key in keys:
            self.add(connection, key)

    def add(self, connection: Connection, key: str) -> None:
        self._by_key.setdefault(key, set()).add(connection)
        self._by_connection.setdefault(connection, set()).add(key)

    def discard(self, connection: Connection, key: str) -> None:
        keys = self._by_connection.get(connection)
        if keys is None or key not in keys:
            return
        keys.discard(key)
        if not keys:
            del self._by_connection[connection]
        watching = self._by_key[key]
        watching.discard(connection)
        if not watching:
            del self._by_key[key]

    def forget(self, connection: Connection) -> None:
        for key in list(self._by_connection.get(connection, ())):
            self.discard(connection, key)

    def send(self, key: str, frame: Frame, *, skip: Collection[str], only: Container[str] | None = None) -> None:
        """Send to every connection that watches `key`, but to no user in `skip`, and to none beside `only`."""
        for connection in self._by_key.get(key, ()):
            if connection.user_id not in skip and (only is None or connection.user_id in only):
                connection.send(frame)
