"""Keeps profiles as another service says: it creates, replaces, deactivates and deletes users."""

from collections.abc import Awaitable, Callable
from typing import Any

from server.bounds import USER_TYPE_LENGTH
from server.errors import Conflict, Faults, NotFound, ValidationFailed
from server.models import User, now
from server.protocol import UserView
from server.requests import DirectoryUser
from server.services.accounts import profile_rules
from server.services.accounts.claims import RESERVED_IDS
from server.services.accounts.profiles import DELETED_PROFILE, Profiles


class Directory:
    """`end_user(user_id)` disconnects the sockets of a user. `is_shared`: accounts of this server are not touched."""

    def __init__(self, profiles: Profiles, end_user: Callable[[str], Awaitable[None]], *, is_shared: bool) -> None:
        self._profiles = profiles
        self._end_user = end_user
        self._is_shared = is_shared

    async def put(self, request: DirectoryUser) -> tuple[UserView, bool]:
        """Create a user or replace their profile; and whether they are new. What is left out becomes empty.

        Raises `ValidationFailed`, and `Conflict` for a user who has an account here.
        """
        fields, user_id = _check(request), request.user_id
        if user_id in RESERVED_IDS or not user_id.isprintable():
            raise ValidationFailed.at("id", "cannot be the id of a user")
        is_new = False
        if await self._access(user_id) is None:
            try:
                await self._profiles.create(User(id=user_id, created_at=now(), is_external=True, **fields), None)
                is_new = True
            except Conflict:
                # Made by another request meanwhile.
                await self._profiles.replace(user_id, fields)
        else:
            await self._profiles.replace(user_id, fields)
        if not request.is_active:
            await self._end_user(user_id)
        return await self._profiles.view_any(user_id), is_new

    async def delete(self, user_id: str) -> None:
        """Deactivate a user and empty their profile; what they wrote stays, of "Deleted user".

        Raises `NotFound`, and `Conflict` for a user who has an account here.
        """
        if await self._access(user_id) is None:
            raise NotFound("No such user")
        await self._profiles.replace(user_id, DELETED_PROFILE)
        await self._end_user(user_id)

    async def _access(self, user_id: str) -> User | None:
        user = (await self._profiles.get_many([user_id])).get(user_id)
        if user is not None and self._is_shared and not user.is_external:
            raise Conflict("This user has an account here")
        return user


def _check(request: DirectoryUser) -> dict[str, Any]:
    with Faults() as faults:
        last_name = request.last_name.strip()
        return {
            "email": faults.of(profile_rules.check_email, request.email) if request.email else "",
            "first_name": faults.of(profile_rules.check_name, "firstName", request.first_name),
            "last_name": faults.of(profile_rules.check_name, "lastName", last_name) if last_name else "",
            "phone": faults.of(profile_rules.check_phone, request.phone),
            "profile_image": faults.of(profile_rules.check_first_profile_image, request.profile_image),
            "user_type": faults.of(_check_user_type, request.user_type),
            "trust_score": request.trust_score,
            "is_active": request.is_active,
        }


def _check_user_type(value: str | None) -> str | None:
    if value is not None and len(value.strip()) > USER_TYPE_LENGTH:
        raise ValidationFailed.at("userType", f"must have at most {USER_TYPE_LENGTH} characters")
    return value.strip() or None if value is not None else None
