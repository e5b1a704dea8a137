"""Builds the account services."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from server.config.settings import Settings
from server.services.accounts.accounts import Accounts
from server.services.accounts.authenticators import Authenticators
from server.services.accounts.passwords import Passwords
from server.services.accounts.ports import Index, Limits, Presence, ProfileImages
from server.services.accounts.profiles import Profiles
from server.services.accounts.tokens import Tokens
from server.storage.stores import Stores


class AccountServices(NamedTuple):
    accounts: Accounts
    authenticators: Authenticators
    profiles: Profiles
    passwords: Passwords


def build_accounts(
    settings: Settings,
    secret: str,
    stores: Stores,
    index: Index,
    presence: Presence,
    images: ProfileImages,
    limits: Limits,
    end_session: Callable[[str], Awaitable[None]],
) -> AccountServices:
    """`secret` signs the tokens; `end_session` disconnects every socket of a login session."""
    auth = settings.auth
    profiles = Profiles(stores.users, index, presence, images, limits)
    passwords = Passwords(is_limited=settings.limits.enabled)
    accounts = Accounts(
        users=stores.users,
        sessions=stores.sessions,
        tokens=Tokens(secret, auth.access_ttl),
        passwords=passwords,
        limits=limits,
        profiles=profiles,
        refresh_ttl=auth.refresh_ttl,
        refresh_grace=auth.refresh_grace,
        user_types=auth.user_types,
        end_session=end_session,
    )
    return AccountServices(accounts, Authenticators([accounts]), profiles, passwords)
