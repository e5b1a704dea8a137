"""`/api/v1/users/…`: own profile, other profiles, search."""

from handlers.base import ApiHandler
from server.errors import ValidationFailed
from server.requests import (
    ID_LENGTH,
    MOST_PRESENT,
    AccountRemoval,
    DirectoryUser,
    PresenceIds,
    PresenceQuery,
    ProfilePatch,
    SearchQuery,
    UserRef,
)


class MeHandler(ApiHandler):
    async def get(self) -> None:
        self.answer(await self.execute())

    async def patch(self) -> None:
        self.answer(await self.execute(lambda: self.parse(ProfilePatch)))

    async def delete(self) -> None:
        await self.execute(lambda: self.parse(AccountRemoval))
        self.answer_nothing()


class UserSearchHandler(ApiHandler):
    async def get(self) -> None:
        await self.answer_large(await self.execute(lambda: self.parse_query(SearchQuery)))


class PresenceHandler(ApiHandler):
    async def get(self) -> None:
        self.answer(await self.execute(self._read_query))

    def _read_query(self) -> PresenceQuery:
        ids = self.parse_query(PresenceIds).ids.split(",")
        if len(ids) > MOST_PRESENT or not all(0 < len(user_id) <= ID_LENGTH for user_id in ids):
            raise ValidationFailed.at("ids", f"must be 1 to {MOST_PRESENT} ids of users, separated by commas")
        return PresenceQuery(ids)


class UserHandler(ApiHandler):
    async def get(self, user_id: str) -> None:
        self.answer(await self.execute(lambda: UserRef(user_id)))

    async def put(self, user_id: str) -> None:
        user, is_new = await self.execute(lambda: self.parse(DirectoryUser, userId=user_id))
        self.answer(user, 201 if is_new else 200)

    async def delete(self, user_id: str) -> None:
        await self.execute(lambda: UserRef(user_id))
        self.answer_nothing()
