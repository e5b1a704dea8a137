"""Authenticates the clients of `/chat`, and opens and closes their connections."""

import asyncio
from collections import Counter
from typing import Any

from server.concurrency.tasks import Tasks
from server.context import Context
from server.errors import RateLimited, Unauthorized
from server.models import Principal
from server.realtime.connection import Connection


class Connections:
    """Tells the services about connections: offline queue, presence and typing."""

    def __init__(self, context: Context, tasks: Tasks) -> None:
        self._context = context
        self._hub = context.hub
        self._tasks = tasks
        # Connections accepted and not open yet, by user.
        self._opening: Counter[str] = Counter()

    async def authenticate(self, auth: Any, header: str | None) -> Principal:
        """The principal of a client from the token in its `auth` or its `Authorization` header.

        Raises `Unauthorized`, `TokenExpired`, `RateLimited`, or `TimeoutError` if the store does not answer in time.
        """
        principal = await asyncio.wait_for(
            self._context.authenticators.authenticate(_token_of(auth, header)),
            self._context.settings.socket.connect_timeout,
        )
        self._context.limits.check_event(principal.user_id)
        self._check_sockets(principal.user_id)
        return principal

    def reserve(self, user_id: str) -> None:
        """Count an accepted connection until it opens."""
        self._opening[user_id] += 1

    def release(self, user_id: str) -> None:
        """Undo `reserve`."""
        self._opening -= Counter((user_id,))

    def open(self, connection: Connection) -> None:
        """Count a connection in and flush the offline queue of its user to it."""
        is_first = self._hub.add(connection)
        if self._context.accounts.has_ended(connection.principal):
            # The login session ended between authentication and `add`, so `end_session` did not see this connection.
            self._tasks.run(self._hub.end([connection], Unauthorized("The session has ended")))
        self._tasks.run(self._context.offline_queue.flush(connection))
        if is_first:
            self._tasks.run(self._context.presence.connected(connection.user_id))

    def close(self, sid: str) -> Connection | None:
        """Count a connection out. None if it was never open."""
        removed = self._hub.remove(sid)
        if removed is None:
            return None
        connection, was_last, unconfirmed = removed
        self._context.typing.forget(connection)
        self._context.presence.forget(connection)
        self._context.unconfirmed.requeue(connection.user_id, unconfirmed)
        if was_last:
            self._context.typing.end_all(connection.user_id)
            self._context.presence.disconnected(connection.user_id)
        return connection

    def _check_sockets(self, user_id: str) -> None:
        """Raise `RateLimited` if the user has `socket.max_per_user` sockets."""
        settings = self._context.settings.socket
        count = len(self._hub.connections_of(user_id)) + self._opening[user_id]
        if self._context.settings.limits.enabled and count >= settings.max_per_user:
            # Dead connections are removed by then.
            retry_after = settings.ping_interval + settings.ping_timeout
            raise RateLimited("Too many sockets of one user", limit="socket.max_per_user", retry_after=retry_after)


def _token_of(auth: Any, header: str | None) -> str:
    """The token in `auth`, else in the header. Raises `Unauthorized` if there is none."""
    token = auth.get("token") if isinstance(auth, dict) else None
    if token is None and header is not None:
        scheme, _, credentials = header.partition(" ")
        token = credentials.strip() if scheme.lower() == "bearer" else None
    if not isinstance(token, str) or not token:
        raise Unauthorized
    return token.removeprefix("Bearer ")
