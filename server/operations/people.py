"""Operations on accounts, people and their presence."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

from server.context import Context
from server.errors import ChatError, Conflict, Forbidden, NotFound, Unauthorized
from server.operations.operation import NOT_FOUND, NOTHING, Caller, Limit, Made, Nothing, Operation
from server.protocol import PresenceList, SearchResult, SessionList, TokenPair, UserView, wire_time
from server.requests import (
    AccountRemoval,
    DirectoryUser,
    Login,
    PasswordChange,
    PresenceQuery,
    ProfilePatch,
    Refresh,
    Registration,
    SearchQuery,
    SessionRef,
    TokenRef,
    UserRef,
)


async def _register(context: Context, caller: Caller, request: Registration) -> TokenPair:
    return await context.accounts.register(request, caller.client)


async def _log_in(context: Context, caller: Caller, request: Login) -> TokenPair:
    return await context.accounts.login(request, caller.client)


async def _refresh(context: Context, caller: Caller, request: Refresh) -> TokenPair:
    return await context.accounts.refresh(request, caller.client)


async def _log_out(context: Context, caller: Caller, _request: Nothing) -> Nothing:
    await context.accounts.logout(caller.known)
    return NOTHING


async def _list_sessions(context: Context, caller: Caller, _request: Nothing) -> SessionList:
    return await context.own_sessions.list_sessions(caller.known)


async def _end_session(context: Context, caller: Caller, request: SessionRef) -> Nothing:
    await context.own_sessions.end_session(caller.known, request.session_id)
    return NOTHING


async def _export(context: Context, caller: Caller, _request: Nothing) -> AsyncIterator[bytes]:
    return await context.export.open(caller.known)


async def _delete_account(context: Context, caller: Caller, request: AccountRemoval) -> Nothing:
    await context.deletion.delete(caller.known, request.password, caller.client.address)
    return NOTHING


async def _change_password(context: Context, caller: Caller, request: PasswordChange) -> Nothing:
    await context.own_sessions.change_password(caller.known, request, caller.client.address)
    return NOTHING


async def _renew_connection(context: Context, caller: Caller, request: TokenRef) -> str:
    """Continue the connection under a new token of the same user. Returns when that expires."""
    principal, connection = await context.authenticators.authenticate(request.token), caller.connection
    if connection is None or principal.user_id != connection.user_id:
        raise Forbidden("The token is for another user")
    if context.accounts.has_ended(principal):
        # It ended after authentication, while this connection did not belong to it yet.
        raise Unauthorized("The session has ended")
    context.hub.renew(connection, principal)
    return wire_time(datetime.fromtimestamp(principal.expires_at, UTC))


async def _get_own_profile(context: Context, caller: Caller, _request: Nothing) -> UserView:
    return await context.people.profile(caller.user_id, caller.user_id)


async def _change_profile(context: Context, caller: Caller, request: ProfilePatch) -> UserView:
    return await context.people.update(caller.user_id, request)


async def _get_profile(context: Context, caller: Caller, request: UserRef) -> UserView:
    return await context.people.profile(request.user_id, caller.user_id)


async def _put_user(context: Context, _caller: Caller, request: DirectoryUser) -> Made:
    return Made(*await context.directory.put(request))


async def _delete_user(context: Context, _caller: Caller, request: UserRef) -> Nothing:
    await context.directory.delete(request.user_id)
    return NOTHING


async def _search_people(context: Context, caller: Caller, request: SearchQuery) -> SearchResult:
    return await context.search.search(caller.user_id, request)


async def _get_presence(context: Context, caller: Caller, request: PresenceQuery) -> PresenceList:
    return PresenceList(await context.presence.query(caller.user_id, request, caller.connection))


LOGIN_ERRORS: Final = frozenset[type[ChatError]]({Unauthorized, Forbidden})
REGISTER: Final = Operation(
    "accounts.register",
    "Create an account and log in",
    None,
    Registration,
    TokenPair,
    _register,
    frozenset({Conflict, Forbidden}),
)
LOG_IN: Final = Operation(
    "accounts.log_in", "Log in by email and password", None, Login, TokenPair, _log_in, LOGIN_ERRORS
)
REFRESH: Final = Operation(
    "accounts.refresh", "Get a new pair of tokens for a refresh token", None, Refresh, TokenPair, _refresh, LOGIN_ERRORS
)
LOG_OUT: Final = Operation(
    "accounts.log_out", "End this session with its tokens and sockets", "sessions:write", Nothing, Nothing, _log_out
)
LIST_SESSIONS: Final = Operation(
    "accounts.list_sessions",
    "Where one is logged in",
    "sessions:read",
    Nothing,
    SessionList,
    _list_sessions,
    limit=Limit.READS,
)
END_SESSION: Final = Operation(
    "accounts.end_session",
    "End one of one's sessions with its tokens and sockets",
    "sessions:write",
    SessionRef,
    Nothing,
    _end_session,
    NOT_FOUND,
)
CHANGE_PASSWORD: Final = Operation(
    "accounts.change_password",
    "Change one's password, which ends all other sessions",
    "sessions:write",
    PasswordChange,
    Nothing,
    _change_password,
    frozenset({Conflict}),
)
EXPORT: Final = Operation(
    "accounts.export",
    "Everything of one's own: JSON and files, as a zip",
    "users:read",
    Nothing,
    bytes,
    _export,
    NOT_FOUND,
)
DELETE_ACCOUNT: Final = Operation(
    "accounts.delete", "Delete one's own account", "profile:write", AccountRemoval, Nothing, _delete_account, NOT_FOUND
)
RENEW_CONNECTION: Final = Operation(
    "accounts.renew_connection",
    "Continue a connection under a fresh token of the same user",
    "sessions:write",
    TokenRef,
    str,
    _renew_connection,
)
GET_OWN_PROFILE: Final = Operation(
    "users.get_own_profile",
    "One's own profile",
    "users:read",
    Nothing,
    UserView,
    _get_own_profile,
    NOT_FOUND,
    Limit.READS,
)
CHANGE_PROFILE: Final = Operation(
    "users.change_profile",
    "Change one's own profile",
    "profile:write",
    ProfilePatch,
    UserView,
    _change_profile,
    frozenset({Conflict, NotFound}),
)
GET_PROFILE: Final = Operation(
    "users.get_profile", "The profile of a user", "users:read", UserRef, UserView, _get_profile, NOT_FOUND, Limit.READS
)
PUT_USER: Final = Operation(
    "users.put",
    "Create or replace a user, for the service that has the accounts",
    "users:write",
    DirectoryUser,
    UserView,
    _put_user,
    frozenset({Conflict}),
    is_delegated=True,
)
DELETE_USER: Final = Operation(
    "users.delete",
    "Deactivate a user and empty the profile, for the service that has the accounts",
    "users:write",
    UserRef,
    Nothing,
    _delete_user,
    frozenset({Conflict, NotFound}),
    is_delegated=True,
)
SEARCH_PEOPLE: Final = Operation(
    "users.search",
    "Find people by name, email, phone or id",
    "users:read",
    SearchQuery,
    SearchResult,
    _search_people,
    limit=Limit.READS,
)
GET_PRESENCE: Final = Operation(
    "presence.get",
    "Who is online, and when others were last seen",
    "users:read",
    PresenceQuery,
    PresenceList,
    _get_presence,
    limit=Limit.READS,
)
