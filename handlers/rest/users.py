"""`/api/v1/users/…`: own profile, other profiles, search."""

from handlers.base import ApiHandler
from server.requests import DirectoryUser, ProfilePatch, SearchQuery, UserRef


class MeHandler(ApiHandler):
    async def get(self) -> None:
        self.answer(await self.execute())

    async def patch(self) -> None:
        self.answer(await self.execute(lambda: self.parse(ProfilePatch)))


class UserSearchHandler(ApiHandler):
    async def get(self) -> None:
        self.answer(await self.execute(lambda: self.parse_query(SearchQuery)))


class UserHandler(ApiHandler):
    async def get(self, user_id: str) -> None:
        self.answer(await self.execute(lambda: UserRef(user_id)))

    async def put(self, user_id: str) -> None:
        user, is_new = await self.execute(lambda: self.parse(DirectoryUser, userId=user_id))
        self.answer(user, 201 if is_new else 200)

    async def delete(self, user_id: str) -> None:
        await self.execute(lambda: UserRef(user_id))
        self.answer_nothing()
