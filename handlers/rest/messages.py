"""`/api/v1/messages/…`: rooms, the chat list, history, sending and reading."""

from handlers.base import IDEMPOTENCY_KEY, ApiHandler
from server.errors import ValidationFailed
from server.operations.messages import RoomHistory, RoomMessage
from server.operations.rooms import Invitation, RoleChange, RoomChange, RoomMember, RoomMembers
from server.requests import (
    ChatsQuery,
    Edit,
    GroupRequest,
    HistoryQuery,
    MembersQuery,
    MessageRef,
    NewMembers,
    NewRole,
    OpenRoomsQuery,
    Pin,
    React,
    RoomKind,
    RoomPatch,
    RoomRef,
    RoomRequest,
    SendMessage,
    SyncRequest,
)


class RoomsHandler(ApiHandler):
    async def post(self) -> None:
        room, is_new = await self.execute(self._read_request)
        self.answer(room, 201 if is_new else 200)

    def _read_request(self) -> RoomRequest | GroupRequest:
        return self.parse(GroupRequest) if self.peek(RoomKind).type == "GROUP" else self.parse(RoomRequest)


class RoomHandler(ApiHandler):
    async def get(self, room_id: str) -> None:
        self.answer(await self.execute(lambda: RoomRef(room_id)))

    async def patch(self, room_id: str) -> None:
        self.answer(await self.execute(lambda: RoomChange(room_id, self.parse(RoomPatch))))

    async def delete(self, room_id: str) -> None:
        await self.execute(lambda: RoomRef(room_id))
        self.answer_nothing()


class JoinHandler(ApiHandler):
    async def post(self, room_id: str) -> None:
        self.answer(await self.execute(lambda: RoomRef(room_id)))


class OpenRoomsHandler(ApiHandler):
    async def get(self) -> None:
        await self.answer_large(await self.execute(lambda: self.parse_query(OpenRoomsQuery)))


class MembersHandler(ApiHandler):
    async def get(self, room_id: str) -> None:
        await self.answer_large(await self.execute(lambda: RoomMembers(room_id, self.parse_query(MembersQuery))))

    async def post(self, room_id: str) -> None:
        self.answer(await self.execute(lambda: Invitation(room_id, self.parse(NewMembers))))


class MemberHandler(ApiHandler):
    async def patch(self, room_id: str, member_id: str) -> None:
        self.answer(await self.execute(lambda: RoleChange(room_id, member_id, self.parse(NewRole))))

    async def delete(self, room_id: str, member_id: str) -> None:
        await self.execute(lambda: RoomMember(room_id, member_id))
        self.answer_nothing()


class ChatsHandler(ApiHandler):
    async def get(self) -> None:
        await self.answer_large(await self.execute(lambda: self.parse_query(ChatsQuery)))


class ChatHandler(ApiHandler):
    async def get(self, room_id: str) -> None:
        self.answer(await self.execute(lambda: RoomRef(room_id)))


class UnreadHandler(ApiHandler):
    async def get(self) -> None:
        self.answer(await self.execute())


class SyncHandler(ApiHandler):
    async def post(self) -> None:
        await self.answer_large(await self.execute(lambda: self.parse(SyncRequest)))


class ChatMessagesHandler(ApiHandler):
    async def get(self, room_id: str) -> None:
        await self.answer_large(await self.execute(lambda: RoomHistory(room_id, self.parse_query(HistoryQuery))))

    async def post(self, room_id: str) -> None:
        message, is_new = await self.execute(lambda: self._read_message(room_id))
        self.answer(message, 201 if is_new else 200)

    def _read_message(self, room_id: str) -> SendMessage:
        """The header `Idempotency-Key` is another name for `clientMessageId`."""
        message, key = self.parse(SendMessage, roomId=room_id), self.request.headers.get(IDEMPOTENCY_KEY)
        if key is None or key == message.client_message_id:
            return message
        if message.client_message_id is not None:
            raise ValidationFailed.at("clientMessageId", f"differs from {IDEMPOTENCY_KEY}")
        return self.parse(SendMessage, roomId=room_id, clientMessageId=key)


class ChatReadHandler(ApiHandler):
    async def post(self, room_id: str) -> None:
        self.answer(await self.execute(lambda: RoomMessage(self.parse(MessageRef).message_id, room_id)))


class PinsHandler(ApiHandler):
    async def get(self, room_id: str) -> None:
        await self.answer_large(await self.execute(lambda: RoomRef(room_id)))


class MessageHandler(ApiHandler):
    async def patch(self, message_id: str) -> None:
        self.answer(await self.execute(lambda: self.parse(Edit, messageId=message_id)))

    async def delete(self, message_id: str) -> None:
        self.answer(await self.execute(lambda: MessageRef(message_id)))


class ReactionHandler(ApiHandler):
    async def put(self, message_id: str, emoji: str) -> None:
        self.answer(await self.execute(lambda: React(message_id, emoji)))

    async def delete(self, message_id: str, emoji: str) -> None:
        self.answer(await self.execute(lambda: React(message_id, emoji, remove=True)))


class PinHandler(ApiHandler):
    async def put(self, message_id: str) -> None:
        self.answer(await self.execute(lambda: Pin(message_id)))

    async def delete(self, message_id: str) -> None:
        self.answer(await self.execute(lambda: Pin(message_id, remove=True)))


class ReceiptsHandler(ApiHandler):
    async def get(self, message_id: str) -> None:
        self.answer(await self.execute(lambda: MessageRef(message_id)))
