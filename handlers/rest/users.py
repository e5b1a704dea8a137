"""`/api/v1/users/…`: own profile, other profiles, search."""

import asyncio

from tornado.iostream import StreamClosedError

from handlers.base import ApiHandler
from handlers.slow_clients import READ_TIMEOUT
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


class ExportHandler(ApiHandler):
    """A zip that is sent while it is made. The connection is cut if it cannot be finished, so that it looks broken."""

    async def get(self) -> None:
        self.set_header("Content-Type", "application/zip")
        self.set_header("Content-Disposition", 'attachment; filename="madang-export.zip"')
        if self.request.method == "HEAD":
            return
        pieces = await self.execute()
        try:
            async for piece in pieces:
                self.write(piece)
                await asyncio.wait_for(self.flush(), READ_TIMEOUT)
        except StreamClosedError:
            return
        except Exception as error:
            self.log_exception(type(error), error, error.__traceback__)
            self.cut()


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
