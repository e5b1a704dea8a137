"""User profiles: cached reads, changes, and the view that clients see."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from server.blocks import BlockIndex
from server.concurrency.fair_queue import FairQueue
from server.concurrency.ttl_cache import TtlCache
from server.errors import Faults, NotFound, Unavailable
from server.models import User
from server.protocol import UserView
from server.requests import ProfilePatch
from server.services.accounts import profile_rules
from server.services.accounts.contact import Contact
from server.services.accounts.ports import Index, Limits, Presence, ProfileImages
from server.storage.mongo.users import Users
from server.views import view_user

CACHED_USERS: Final = 50_000
# Seconds until other processes see a change. This process sees it at once.
CACHE_AGE: Final = 30.0
# Changes run one at a time, in a fair queue: a concurrent change of the same user has to be planned again, and indexing
# a long name is expensive.
MOST_PER_USER: Final = 50
MOST_WAITING: Final = 2_000
CHANGE_SECONDS: Final = 0.05


# What is left of a deleted account: its messages are those of "Deleted user".
DELETED_PROFILE: Final[Mapping[str, Any]] = {
    "email": "",
    "first_name": "Deleted",
    "last_name": "user",
    "phone": None,
    "profile_image": None,
    "user_type": None,
    "trust_score": None,
    "is_active": False,
}


class Profiles:
    """Reads are served from a cache of bounded size; a cached user costs no database call."""

    def __init__(
        self,
        users: Users,
        index: Index,
        presence: Presence,
        profile_images: ProfileImages,
        limits: Limits,
        blocks: BlockIndex,
        contact: Contact,
    ) -> None:
        self._users = users
        self._index = index
        self._presence = presence
        self._profile_images = profile_images
        self._limits = limits
        self._blocks = blocks
        self._contact = contact
        self._changes = FairQueue(1, most_per_key=MOST_PER_USER, most_waiting=MOST_WAITING, seconds=CHANGE_SECONDS)
        self._cache: TtlCache[str, User] = TtlCache(CACHED_USERS, CACHE_AGE)

    async def get(self, user_id: str) -> User:
        """An active user. Raises `NotFound`."""
        user = self._cache.get(user_id)
        if user is None:
            found = await self._users.find(user_id)
            if found is None:
                raise NotFound("No such user")
            user = self._cache.fill(user_id, found)
        if not user.is_active:
            raise NotFound("No such user")
        return user

    def cached(self, user_id: str) -> User | None:
        """The user if cached and active, without waiting."""
        user = self._cache.get(user_id)
        return user if user is not None and user.is_active else None

    async def get_many(self, user_ids: Iterable[str]) -> dict[str, User]:
        """The existing users by id, inactive ones too: old messages still have senders."""
        wanted = dict.fromkeys(user_ids)
        known = {user_id: user for user_id in wanted if (user := self._cache.get(user_id)) is not None}
        for user in await self._users.find_many([user_id for user_id in wanted if user_id not in known]):
            known[user.id] = self._cache.fill(user.id, user)
        return known

    async def find_inactive(self, user_ids: Collection[str]) -> set[str]:
        """Those of the users who have been deactivated. The cache is updated."""
        inactive = (await self._users.find_inactive()).intersection(user_ids) if user_ids else set()
        for user_id in inactive:
            user = self._cache.get(user_id)
            if user is not None and user.is_active:
                self._cache.put(user_id, msgspec.structs.replace(user, is_active=False))
        return inactive

    async def profile(self, user_id: str, viewer_id: str) -> UserView:
        """A user as another sees them. Raises `NotFound` for an unknown or inactive user."""
        user = await self.get(user_id)
        return (await self.views([user], viewer_id))[0]

    async def views(self, users: Collection[User], viewer_id: str) -> list[UserView]:
        """The users as one of them sees them, in the same order. If Redis is unavailable, all are offline."""
        try:
            online = await self._presence.online([user.id for user in users]) if users else set()
        except Unavailable:
            online = set()
        shown = await self._contact.shown_to(viewer_id, [user.id for user in users])
        apart = self._blocks.apart_from(viewer_id)
        return [
            view_user(user, user.id in online, is_apart=user.id in apart, shows_contact=user.id in shown)
            for user in users
        ]

    async def update(self, user_id: str, patch: ProfilePatch) -> UserView:
        """Change the fields that the patch holds. Raises `ValidationFailed`, `NotFound`, `RateLimited`."""
        self._limits.check_profile_change(user_id)
        fields = _checked(patch)
        async with self._changes.take(user_id):
            return await self._update(user_id, fields)

    async def _update(self, user_id: str, fields: dict[str, Any]) -> UserView:
        before = (await self.get(user_id)).profile_image
        image = fields.get("profile_image")
        if image is not None and image != before and profile_rules.is_upload_path(image):
            await self._profile_images.link_profile(user_id, image)
        if fields:
            await self.change(user_id, fields)
        if before is not None and "profile_image" in fields and image != before:
            await self._profile_images.release_profile(user_id, before)
        return await self.profile(user_id, user_id)

    async def replace(self, user_id: str, fields: Mapping[str, Any]) -> None:
        """Set checked fields of any user, and without a limit: for those who keep the directory. Raises `NotFound`."""
        async with self._changes.take(user_id):
            before = (await self.get_many([user_id])).get(user_id)
            await self.change(user_id, fields)
            image = None if before is None else before.profile_image
            if image is not None and image != fields["profile_image"]:
                await self._profile_images.release_profile(user_id, image)

    async def view_any(self, user_id: str) -> UserView:
        """As `profile`, for inactive users too."""
        return (await self.views(list((await self.get_many([user_id])).values()), user_id))[0]

    async def change(self, user_id: str, fields: Mapping[str, Any]) -> User:
        """Change checked fields (named as in `User`) and the search index. Raises `NotFound`."""
        while True:
            record = await self._users.find_record(user_id)
            if record is None:
                raise NotFound("No such user")
            if record.pending is not None:
                await self._index.settle(record.pending)
            user = msgspec.structs.replace(record.user, **fields)
            change = await self._index.plan(user, record.indexed)
            # False if the user was changed in between: plan again from the current record.
            if await self._users.change(record, fields, change):
                self._cache.put(user_id, user)
                await self._index.settle_soon(change)
                return user

    async def create(self, user: User, password_hash: str | None) -> None:
        """Store a new user with checked fields. Raises `Conflict` for a taken email."""
        change = await self._index.plan(user, {})
        await self._users.insert(user, password_hash, change)
        self._cache.put(user.id, user)
        await self._index.settle_soon(change)

    async def touch_last_seen(self, seen: Mapping[str, datetime]) -> None:
        """Store when these users disconnected."""
        await self._users.set_last_seen(seen)
        for user_id, at in seen.items():
            user = self._cache.get(user_id)
            if user is not None and (user.last_seen_at is None or user.last_seen_at < at):
                self._cache.put(user_id, msgspec.structs.replace(user, last_seen_at=at))


def _checked(patch: ProfilePatch) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    with Faults() as faults:
        if isinstance(patch.first_name, str):
            fields["first_name"] = faults.of(profile_rules.check_name, "firstName", patch.first_name)
        if isinstance(patch.last_name, str):
            fields["last_name"] = faults.of(profile_rules.check_name, "lastName", patch.last_name)
        if not isinstance(patch.phone, msgspec.UnsetType):
            fields["phone"] = faults.of(profile_rules.check_phone, patch.phone)
        if not isinstance(patch.profile_image, msgspec.UnsetType):
            fields["profile_image"] = faults.of(profile_rules.check_profile_image, patch.profile_image)
    return fields
