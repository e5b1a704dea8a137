"""`/api/v1/auth/…`: register, login, refresh, logout, password and sessions."""

from handlers.base import ApiHandler
from server.requests import Login, PasswordChange, Refresh, Registration, SessionRef


class RegisterHandler(ApiHandler):
    async def post(self) -> None:
        self.answer(await self.execute(lambda: self.parse(Registration)), 201)


class LoginHandler(ApiHandler):
    async def post(self) -> None:
        self.answer(await self.execute(lambda: self.parse(Login)))


class RefreshHandler(ApiHandler):
    async def post(self) -> None:
        self.answer(await self.execute(lambda: self.parse(Refresh)))


class PasswordHandler(ApiHandler):
    async def post(self) -> None:
        await self.execute(lambda: self.parse(PasswordChange))
        self.answer_nothing()


class SessionsHandler(ApiHandler):
    async def get(self) -> None:
        self.answer(await self.execute())


class SessionHandler(ApiHandler):
    async def delete(self, session_id: str) -> None:
        await self.execute(lambda: SessionRef(session_id))
        self.answer_nothing()


class LogoutHandler(ApiHandler):
    async def post(self) -> None:
        await self.execute()
        self.answer_nothing()
