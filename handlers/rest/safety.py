"""`…/settings`, `…/block`, `/users/blocked` and `…/report`: own settings of rooms, blocks and reports."""

from handlers.base import ApiHandler
from server.requests import ChatSettingsPatch, MessageReport, UserRef


class ChatSettingsHandler(ApiHandler):
    async def patch(self, room_id: str) -> None:
        self.answer(await self.execute(lambda: self.parse(ChatSettingsPatch, roomId=room_id)))


class BlockHandler(ApiHandler):
    async def post(self, user_id: str) -> None:
        await self.execute(lambda: UserRef(user_id))
        self.answer_nothing()

    async def delete(self, user_id: str) -> None:
        await self.execute(lambda: UserRef(user_id))
        self.answer_nothing()


class BlockedHandler(ApiHandler):
    async def get(self) -> None:
        self.answer(await self.execute())


class ReportHandler(ApiHandler):
    async def post(self, message_id: str) -> None:
        await self.execute(lambda: self.parse(MessageReport, messageId=message_id))
        self.answer_nothing()
