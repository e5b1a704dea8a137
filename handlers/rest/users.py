"""`/api/v1/users/…`: own profile, other profiles, search."""

from handlers.base import ApiHandler, delayed_refusal
from server.protocol import ProfilePatch, SearchQuery


class MeHandler(ApiHandler):
    async def get(self) -> None:
        self.answer(await self.context.people.profile(self.principal.user_id))

    async def patch(self) -> None:
        patch = self.parse(ProfilePatch)
        async with delayed_refusal():
            profile = await self.context.people.update(self.principal.user_id, patch)
        self.answer(profile)


class UserSearchHandler(ApiHandler):
    async def get(self) -> None:
        query = self.parse_query(SearchQuery)
        self.answer(await self.context.search.search(self.principal.user_id, query))


class UserHandler(ApiHandler):
    async def get(self, user_id: str) -> None:
        self.answer(await self.context.people.profile(user_id))
