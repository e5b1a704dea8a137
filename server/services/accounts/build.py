"""Builds the account services."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from server.blocks import BlockIndex
from server.config.settings import Auth, External, Settings
from server.services.accounts.accounts import Accounts
from server.services.accounts.authenticators import Authenticator, Authenticators
from server.services.accounts.contact import Contact
from server.services.accounts.deletion import AccountDeletion
from server.services.accounts.directory import Directory
from server.services.accounts.external_tokens import ExternalTokens
from server.services.accounts.invites import Invites
from server.services.accounts.live_sessions import LiveSessions
from server.services.accounts.own_sessions import OwnSessions
from server.services.accounts.password_check import PasswordCheck
from server.services.accounts.passwords import Passwords
from server.services.accounts.ports import Index, Limits, Presence, ProfileImages
from server.services.accounts.profiles import Profiles
from server.services.accounts.signing_keys import KeySet, PublicKeyFile, SharedSecret, SigningKeys
from server.services.accounts.tokens import Tokens
from server.storage.stores import Stores


class AccountServices(NamedTuple):
    accounts: Accounts
    authenticators: Authenticators
    profiles: Profiles
    own_sessions: OwnSessions
    deletion: AccountDeletion
    passwords: Passwords
    directory: Directory
    key_set: KeySet | None
    configure: Callable[[Auth], None]


def build_accounts(
    settings: Settings,
    secret: str,
    stores: Stores,
    index: Index,
    presence: Presence,
    images: ProfileImages,
    limits: Limits,
    end_session: Callable[[str], Awaitable[None]],
    end_user: Callable[[str], Awaitable[None]],
    leave: Callable[[str], Awaitable[None]],
    blocks: BlockIndex,
    contact: Contact,
) -> AccountServices:
    """`secret` signs the tokens; `end_session` disconnects every socket of a login session, `end_user` of a user.

    `leave` removes what other subjects have of a user whose account is deleted.
    """
    auth = settings.auth
    profiles = Profiles(stores.users, index, presence, images, limits, blocks, contact)
    live = LiveSessions(stores.sessions, end_session)
    passwords = Passwords(is_limited=settings.limits.enabled)
    accounts = Accounts(
        users=stores.users,
        sessions=stores.sessions,
        live=live,
        tokens=Tokens(secret, auth.access_ttl),
        passwords=passwords,
        limits=limits,
        profiles=profiles,
        refresh_ttl=auth.refresh_ttl,
        refresh_grace=auth.refresh_grace,
        user_types=auth.user_types,
        registration=auth.registration,
        invites=Invites(secret),
        is_open=auth.mode != "external",
    )
    external: ExternalTokens | None = None
    chain: list[Authenticator] = [accounts] if auth.mode != "external" else []
    key_set = KeySet(auth.external.jwks_url) if auth.external.jwks_url else None
    if auth.mode != "builtin":
        external = ExternalTokens(auth, _find_keys(auth.external, key_set), profiles)
        chain.append(external)

    def configure(changed: Auth) -> None:
        keys = _find_keys(changed.external, key_set)
        accounts.set_registration(changed.registration, changed.user_types)
        if external is not None:
            external.configure(changed, keys)

    directory = Directory(profiles, end_user, is_shared=auth.mode == "both")
    check = PasswordCheck(stores.users, passwords, limits)
    own_sessions = OwnSessions(stores.users, stores.sessions, live, passwords, check)
    deletion = AccountDeletion(stores.users, profiles, check, live, end_user, leave)
    return AccountServices(
        accounts, Authenticators(chain), profiles, own_sessions, deletion, passwords, directory, key_set, configure
    )


def _find_keys(external: External, key_set: KeySet | None) -> list[SigningKeys]:
    keys: list[SigningKeys] = [SharedSecret(external.secret)] if external.secret else []
    if external.public_key_file:
        keys.append(PublicKeyFile(external.public_key_file))
    if key_set is not None:
        keys.append(key_set)
    return keys
