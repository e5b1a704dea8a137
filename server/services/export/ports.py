"""Protocols of the services that an export reads; `server/context.py` wires their implementations."""

from collections.abc import AsyncIterator
from typing import Protocol

from server.models import Principal
from server.protocol import BlockedPeople, ChatPage, SessionList, UserView
from server.requests import ChatsQuery
from server.room_state import RoomState
from server.storage.blobs import Blob
from server.storage.mongo.upload_records import UploadRecord


class People(Protocol):
    async def profile(self, user_id: str, viewer_id: str) -> UserView: ...


class OwnSessions(Protocol):
    async def list_sessions(self, principal: Principal) -> SessionList: ...


class Blocking(Protocol):
    async def list_blocked(self, user_id: str) -> BlockedPeople: ...


class ChatList(Protocol):
    async def list_chats(self, user_id: str, query: ChatsQuery) -> ChatPage: ...


class Rooms(Protocol):
    async def of_user(self, user_id: str) -> list[RoomState]: ...


class Files(Protocol):
    def find_own(self, user_id: str) -> AsyncIterator[UploadRecord]: ...

    async def open_own(self, record: UploadRecord) -> Blob | None: ...


class Limits(Protocol):
    async def check_export(self, user_id: str) -> None: ...
