"""`/api/v1/auth/…`: register, login, refresh, logout."""

from handlers.base import ApiHandler
from server.requests import Login, Refresh, Registration


class RegisterHandler(ApiHandler):
    async def post(self) -> None:
        self.answer(await self.execute(lambda: self.parse(Registration)), 201)


class LoginHandler(ApiHandler):
    async def post(self) -> None:
        self.answer(await self.execute(lambda: self.parse(Login)))


class RefreshHandler(ApiHandler):
    async def post(self) -> None:
        self.answer(await self.execute(lambda: self.parse(Refresh)))


class LogoutHandler(ApiHandler):
    async def post(self) -> None:
        await self.execute()
        self.answer_nothing()
