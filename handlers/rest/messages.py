"""`/api/v1/messages/…`: rooms, the chat list, history, sending and reading."""

import msgspec

from handlers.base import ApiHandler
from server.operations.table import (
    Invitation,
    RoleChange,
    RoomChange,
    RoomHistory,
    RoomMember,
    RoomMembers,
    RoomMessage,
)
from server.protocol import (
    ChatsQuery,
    GroupRequest,
    HistoryQuery,
    MembersQuery,
    MessageRef,
    NewMembers,
    NewRole,
    RoomKind,
    RoomPatch,
    RoomRef,
    RoomRequest,
    SendMessage,
)


class RoomsHandler(ApiHandler):
    async def post(self) -> None:
        room, is_new = await self.execute(self._read_request)
        self.answer(room, 201 if is_new else 200)

    def _read_request(self) -> RoomRequest | GroupRequest:
        return self.parse(GroupRequest) if self.parse(RoomKind).type == "GROUP" else self.parse(RoomRequest)


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


class MembersHandler(ApiHandler):
    async def get(self, room_id: str) -> None:
        page = await self.execute(lambda: RoomMembers(room_id, self.parse_query(MembersQuery)))
        await self.answer_large(msgspec.json.encode(page))

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
