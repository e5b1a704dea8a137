"""`/api/v1/messages/…`: rooms, the chat list, history, sending and reading."""

import msgspec

from handlers.base import ApiHandler, delayed_refusal
from server.protocol import ChatsQuery, HistoryQuery, MessageRef, RoomRequest, SendMessage


class RoomsHandler(ApiHandler):
    async def post(self) -> None:
        room, is_new = await self.context.chat_list.open_room(self.principal.user_id, self.parse(RoomRequest))
        self.answer(room, 201 if is_new else 200)


class RoomHandler(ApiHandler):
    async def get(self, room_id: str) -> None:
        self.answer(await self.context.chat_list.get_room(self.principal.user_id, room_id))


class ChatsHandler(ApiHandler):
    async def get(self) -> None:
        query = self.parse_query(ChatsQuery)
        body = msgspec.json.encode(await self.context.chat_list.list_chats(self.principal.user_id, query))
        await self.answer_large(body)


class ChatMessagesHandler(ApiHandler):
    async def get(self, room_id: str) -> None:
        query = self.parse_query(HistoryQuery)
        async with delayed_refusal():
            body = msgspec.json.encode(await self.context.history.read_page(self.principal.user_id, room_id, query))
        await self.answer_large(body)

    async def post(self, room_id: str) -> None:
        messages = self.context.messages
        admitted = messages.admit(self.principal.user_id, lambda: self.parse(SendMessage, roomId=room_id))
        message, is_new = await messages.store(admitted)
        self.answer(message, 201 if is_new else 200)


class ChatReadHandler(ApiHandler):
    async def post(self, room_id: str) -> None:
        message_id = self.parse(MessageRef).message_id
        self.answer(await self.context.receipts.mark_read(self.principal.user_id, message_id, room_id=room_id))
