"""`/api/v1/messages/…`: rooms, the chat list, history, sending and reading."""

import msgspec

from handlers.base import ApiHandler
from server.operations.table import RoomHistory, RoomMessage
from server.protocol import ChatsQuery, HistoryQuery, MessageRef, RoomRef, RoomRequest, SendMessage


class RoomsHandler(ApiHandler):
    async def post(self) -> None:
        room, is_new = await self.execute(lambda: self.parse(RoomRequest))
        self.answer(room, 201 if is_new else 200)


class RoomHandler(ApiHandler):
    async def get(self, room_id: str) -> None:
        self.answer(await self.execute(lambda: RoomRef(room_id)))


class ChatsHandler(ApiHandler):
    async def get(self) -> None:
        page = await self.execute(lambda: self.parse_query(ChatsQuery))
        await self.answer_large(msgspec.json.encode(page))


class ChatMessagesHandler(ApiHandler):
    async def get(self, room_id: str) -> None:
        page = await self.execute(lambda: RoomHistory(room_id, self.parse_query(HistoryQuery)))
        await self.answer_large(msgspec.json.encode(page))

    async def post(self, room_id: str) -> None:
        message, is_new = await self.execute(lambda: self.parse(SendMessage, roomId=room_id))
        self.answer(message, 201 if is_new else 200)


class ChatReadHandler(ApiHandler):
    async def post(self, room_id: str) -> None:
        self.answer(await self.execute(lambda: RoomMessage(self.parse(MessageRef).message_id, room_id)))
