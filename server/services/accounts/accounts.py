"""Accounts: registration, login, sessions with rotating refresh tokens, and authentication of access tokens."""

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Literal

from server.client_network import client_network
from server.errors import Faults, Forbidden, NotFound, Unauthorized
from server.models import Client, Principal, User, now
from server.protocol import TokenPair
from server.requests import Login, Refresh, Registration
from server.services.accounts import profile_rules
from server.services.accounts.invites import Invites
from server.services.accounts.live_sessions import LiveSessions
from server.services.accounts.passwords import Hashing, Passwords
from server.services.accounts.ports import Limits
from server.services.accounts.profiles import Profiles
from server.services.accounts.tokens import Tokens
from server.storage.mongo.sessions import Session, Sessions
from server.storage.mongo.users import Users

Registering = Literal["open", "invite", "closed"]

SECRET_BYTES: Final = 32
WRONG_LOGIN: Final = "Wrong email or password"


class Accounts:
    """Accounts of this server, and the sessions in which people are logged in to them."""

    def __init__(
        self,
        *,
        users: Users,
        sessions: Sessions,
        live: LiveSessions,
        tokens: Tokens,
        passwords: Passwords,
        limits: Limits,
        profiles: Profiles,
        refresh_ttl: float,
        refresh_grace: float,
        user_types: Sequence[str],
        registration: Registering,
        invites: Invites,
        is_open: bool,
    ) -> None:
        self._users = users
        self._sessions = sessions
        self._live = live
        self._tokens = tokens
        self._passwords = passwords
        self._limits = limits
        self._profiles = profiles
        self._refresh_ttl = timedelta(seconds=refresh_ttl)
        self._refresh_grace = timedelta(seconds=refresh_grace)
        self.set_registration(registration, user_types)
        self._invites = invites
        # False if another service has the accounts.
        self._is_open = is_open

    def set_registration(self, mode: Registering, user_types: Sequence[str]) -> None:
        """From now on these may make an account."""
        self._registration = mode
        self._user_types = user_types

    async def register(self, registration: Registration, client: Client) -> TokenPair:
        """Create an account and its first session.

        Raises `ValidationFailed`, `Conflict`, `Forbidden` if nobody may, `RateLimited`, and `Unavailable` if too many
        requests wait for a password hash.
        """
        self._check_open()
        if self._registration == "closed":
            raise Forbidden("Registration is closed (auth.registration)")
        with Faults() as faults:
            if self._registration == "invite":
                faults.of(self._invites.check, registration.invite, registration.email)
            user = _new_user(registration, self._user_types, faults)
            password = faults.of(profile_rules.check_new_password, registration.password)
        network = client_network(client.address)
        await self._limits.check_registration(network)
        async with self._passwords.turn(network) as hashing:
            password_hash = await hashing.hash(password)
        await self._profiles.create(user, password_hash)
        return await self._open_session(user, network, client)

    async def login(self, login: Login, client: Client) -> TokenPair:
        """Open a session.

        Raises `Unauthorized`, with the same text and timing for an unknown email; `RateLimited`; and `Unavailable` if
        too many requests wait for a password hash.
        """
        self._check_open()
        network, emails = client_network(client.address), profile_rules.login_emails(login.email)
        found = await self._users.find_by_emails(emails)

        async def is_known() -> bool:
            return found is not None and await self._sessions.is_known_from(found[0].id, network)

        # The failure counters are read within the turn: parallel logins see the failures of each other.
        async with (
            self._passwords.turn(network) as hashing,
            self._limits.login(network, emails[-1] if emails else login.email, is_known),
        ):
            user, password_hash = await self._check_password(found, login.password, hashing)
        opened = await self._open_session(user, network, client)
        current = await self._users.find_with_password(user.id)
        if current is None or current[1] != password_hash:
            # The password was changed meanwhile, which may not have ended this session.
            await self._live.end(opened.refresh_token.partition(".")[0], user.id)
            raise Unauthorized(WRONG_LOGIN)
        return opened

    async def refresh(self, refresh: Refresh, client: Client) -> TokenPair:
        """Exchange the refresh token for a new pair.

        A used token is accepted again within the grace after its first use, because the answer may have been lost.
        Later use ends the session. A token that was never issued ends nothing. Raises `Unauthorized`.
        """
        self._check_open()
        session_id, _, secret = refresh.refresh_token.partition(".")
        session = await self._sessions.find(session_id) if session_id and secret else None
        if session is None or session.is_ended or session.expires_at <= now() or not _is_issued(secret, session.key):
            raise Unauthorized("The refresh token is not valid")
        spent = _digest(secret)
        if session.good.get(spent, session.expires_at) <= now():
            raise Unauthorized("The refresh token is not valid")
        user = await self._active_user(session.user_id)
        renewed, network = _new_secret(session.key), client_network(client.address)
        expires_at, grace = now() + self._refresh_ttl, self._refresh_grace
        if not await self._sessions.rotate(
            session, spent, _digest(renewed), expires_at, grace=grace, network=network, client=client
        ):
            await self._live.end(session.id, session.user_id)
            raise Unauthorized("The refresh token is not valid")
        self._live.note_renewed(session.id, user.id)
        return await self._pair(user, session.id, renewed)

    async def logout(self, principal: Principal) -> None:
        """End the session of this principal: its tokens and its sockets."""
        if principal.session_id is not None:
            await self._live.end(principal.session_id, principal.user_id)

    async def authenticate(self, token: str) -> Principal | None:
        """The principal of an access token that this server issued, else None. Raises `Unauthorized` or `TokenExpired`.

        If session and user are cached, it makes no database call.
        """
        claims = self._tokens.verify(token)
        if claims is None:
            return None
        state = await self._live.find(claims.session_id)
        if state is None or not state.is_live or state.user_id != claims.user_id:
            raise Unauthorized
        if self._profiles.cached(claims.user_id) is None:
            await self._active_user(claims.user_id)
        return Principal(claims.user_id, claims.session_id, claims.expires_at)

    def has_ended(self, principal: Principal) -> bool:
        """Whether this session has ended since it was authenticated, as far as this process knows."""
        state = self._live.cached(principal.session_id) if principal.session_id is not None else None
        return state is not None and not state.is_live

    def _check_open(self) -> None:
        if not self._is_open:
            raise Forbidden("Another service has the accounts (auth.mode: external)")

    async def _check_password(
        self, found: tuple[User, str | None] | None, password: str, hashing: Hashing
    ) -> tuple[User, str]:
        """The user whose password it is, and its hash as stored now. Raises `Unauthorized`."""
        user, password_hash = found if found is not None else (None, None)
        fits = await hashing.verify(password_hash, profile_rules.cut_password(password))
        if user is None or password_hash is None or not fits or not user.is_active:
            raise Unauthorized(WRONG_LOGIN)
        if self._passwords.is_outdated(password_hash):
            renewed = await hashing.hash(password)
            if await self._users.set_password_hash(user.id, password_hash, renewed):
                password_hash = renewed
        return user, password_hash

    async def _active_user(self, user_id: str) -> User:
        try:
            return await self._profiles.get(user_id)
        except NotFound:
            raise Unauthorized from None

    async def _open_session(self, user: User, network: str, client: Client) -> TokenPair:
        key = secrets.token_urlsafe(SECRET_BYTES)
        secret = _new_secret(key)
        moment = now()
        expires_at = moment + self._refresh_ttl
        session = Session(
            id=uuid.uuid4().hex,
            user_id=user.id,
            key=key,
            good={_digest(secret): expires_at},
            expires_at=expires_at,
            created_at=moment,
            last_used_at=moment,
            address=client.address,
            user_agent=client.user_agent,
            networks=(network,),
        )
        await self._live.insert(session)
        return await self._pair(user, session.id, secret)

    async def _pair(self, user: User, session_id: str, secret: str) -> TokenPair:
        views = await self._profiles.views([user], user.id)
        return TokenPair(
            user=views[0],
            access_token=self._tokens.issue(user.id, session_id),
            refresh_token=f"{session_id}.{secret}",
            expires_in=max(1, round(self._tokens.access_ttl)),
        )


def _new_user(registration: Registration, user_types: Sequence[str], faults: Faults) -> User:
    return User(
        id=uuid.uuid4().hex,
        email=faults.of(profile_rules.check_email, registration.email),
        first_name=faults.of(profile_rules.check_name, "firstName", registration.first_name),
        last_name=faults.of(profile_rules.check_name, "lastName", registration.last_name),
        phone=faults.of(profile_rules.check_phone, registration.phone),
        user_type=faults.of(profile_rules.check_user_type, registration.user_type, user_types),
        profile_image=faults.of(profile_rules.check_first_profile_image, registration.profile_image),
        created_at=now(),
    )


def _new_secret(key: str) -> str:
    """A random part and its signature, which tells a used token from one that was never issued."""
    random = secrets.token_urlsafe(SECRET_BYTES)
    return f"{random}.{_signature(random, key)}"


def _is_issued(secret: str, key: str) -> bool:
    random, _, signature = secret.partition(".")
    return key != "" and hmac.compare_digest(signature.encode(), _signature(random, key).encode())


def _signature(random: str, key: str) -> str:
    return hmac.new(key.encode(), random.encode(), hashlib.sha256).hexdigest()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
