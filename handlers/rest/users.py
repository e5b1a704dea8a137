"""`/api/v1/users/…`: own profile, other profiles, search."""

from handlers.base import ApiHandler
from server.requests import ProfilePatch, SearchQuery, UserRef


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
