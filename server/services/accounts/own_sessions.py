"""A person's own sessions and password: where they are logged in, and how they end that."""

from server.client_network import client_network
from server.errors import Conflict, NotFound
from server.models import Principal
from server.protocol import SessionList, SessionView, wire_time
from server.requests import PasswordChange
from server.services.accounts import profile_rules
from server.services.accounts.live_sessions import LiveSessions
from server.services.accounts.password_check import PasswordCheck
from server.services.accounts.passwords import Passwords
from server.storage.mongo.sessions import Session, Sessions
from server.storage.mongo.users import Users


class OwnSessions:
    def __init__(
        self, users: Users, sessions: Sessions, live: LiveSessions, passwords: Passwords, check: PasswordCheck
    ) -> None:
        self._users = users
        self._sessions = sessions
        self._live = live
        self._passwords = passwords
        self._check = check

    async def list_sessions(self, principal: Principal) -> SessionList:
        """The sessions in which the user is logged in, the one that was used last first."""
        found = await self._sessions.find_live(principal.user_id)
        found.sort(key=lambda session: session.last_used_at, reverse=True)
        return SessionList([_view(session, session.id == principal.session_id) for session in found])

    async def end_session(self, principal: Principal, session_id: str) -> None:
        """End one of the user's sessions: its tokens and its sockets. Raises `NotFound`, also for those of others."""
        session = await self._sessions.find(session_id)
        if session is None or session.user_id != principal.user_id or session.is_ended:
            raise NotFound("No such session")
        await self._live.end(session_id, principal.user_id)

    async def change_password(self, principal: Principal, request: PasswordChange, address: str) -> None:
        """Set another password, and end all other sessions of the user.

        Raises `ValidationFailed`, `Conflict` if it was changed meanwhile, and as `PasswordCheck.check`.
        """
        profile_rules.check_new_password(request.new_password, "newPassword")
        user, known = await self._check.check(principal, request.old_password, address, "oldPassword")
        async with self._passwords.turn(client_network(address)) as hashing:
            renewed = await hashing.hash(request.new_password)
        # Before and after: whoever is thrown out in between may still know the old password.
        await self._live.end_all(user.id, but=principal.session_id)
        if not await self._users.set_password_hash(user.id, known, renewed):
            raise Conflict("The password was changed meanwhile")
        await self._live.end_all(user.id, but=principal.session_id)


def _view(session: Session, is_current: bool) -> SessionView:
    return SessionView(
        id=session.id,
        created_at=wire_time(session.created_at),
        last_used_at=wire_time(session.last_used_at),
        address=session.address,
        user_agent=session.user_agent,
        is_current=is_current,
    )
