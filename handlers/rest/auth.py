"""`/api/v1/auth/…`: register, login, refresh, logout."""

from handlers.base import ApiHandler
from server.protocol import Login, Refresh, Registration


class RegisterHandler(ApiHandler):
    public = True

    async def post(self) -> None:
        registration = self.parse(Registration)
        self.answer(await self.context.accounts.register(registration, self.client_address()), 201)


class LoginHandler(ApiHandler):
    public = True

    async def post(self) -> None:
        login = self.parse(Login)
        self.answer(await self.context.accounts.login(login, self.client_address()))


class RefreshHandler(ApiHandler):
    public = True

    async def post(self) -> None:
        self.answer(await self.context.accounts.refresh(self.parse(Refresh), self.client_address()))


class LogoutHandler(ApiHandler):
    async def post(self) -> None:
        await self.context.accounts.logout(self.principal)
        self.answer_nothing()
