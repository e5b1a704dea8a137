"""Exports everything of one person as a zip archive: JSON and files, streamed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from server.models import Message, Principal
from server.requests import ChatsQuery
from server.services.export.ports import Blocking, ChatList, Files, Limits, OwnSessions, People, Rooms
from server.services.export.zip_stream import ZipStream
from server.storage.mongo.messages import MessageStore
from server.storage.mongo.reports import ReportStore
from server.storage.mongo.upload_records import UploadRecord
from server.views import view_message

SEQS_PER_READ: Final = 500
CHATS_PER_READ: Final = 100
FILE_CHUNK: Final = 256 * 1024


class Export:
    """One export at a time is compressed in a thread for each piece, so that the event loop goes on."""

    def __init__(
        self,
        people: People,
        sessions: OwnSessions,
        blocking: Blocking,
        chats: ChatList,
        rooms: Rooms,
        messages: MessageStore,
        reports: ReportStore,
        files: Files,
        limits: Limits,
    ) -> None:
        self._people = people
        self._sessions = sessions
        self._blocking = blocking
        self._chats = chats
        self._rooms = rooms
        self._messages = messages
        self._reports = reports
        self._files = files
        self._limits = limits

    async def open(self, principal: Principal) -> AsyncIterator[bytes]:
        """The archive in pieces. Raises `RateLimited` for one who has exported too often, and `Unavailable`.

        It holds `profile.json`, `sessions.json`, `blocked.json`, `chats.json`, `reports.json`, `messages.ndjson` with
        what the user wrote, a line for each message, and `files/` with what they uploaded.
        """
        await self._limits.check_export(principal.user_id)
        # Whatever is not there fails now, while it can still be said.
        profile = await self._people.profile(principal.user_id, principal.user_id)
        return self._stream(principal, profile)

    async def _stream(self, principal: Principal, profile: Any) -> AsyncIterator[bytes]:
        archive, user_id = ZipStream(), principal.user_id
        for name, value in (
            ("profile.json", profile),
            ("sessions.json", (await self._sessions.list_sessions(principal)).sessions),
            (
                "blocked.json",
                [{"id": user.id, "fullName": user.full_name} for user in await self._find_blocked(user_id)],
            ),
            ("chats.json", await self._find_chats(user_id)),
            ("reports.json", await self._reports.find_of(user_id)),
        ):
            with archive.entry(name, is_text=True) as entry:
                entry.write(msgspec.json.format(msgspec.json.encode(value)))
            yield archive.take()
        with archive.entry("messages.ndjson", is_text=True) as entry:
            async for lines in self._read_messages(user_id, profile.full_name):
                await asyncio.to_thread(entry.write, lines)
                yield archive.take()
        async for record in self._files.find_own(user_id):
            async for piece in self._add_file(archive, record):
                yield piece
        yield archive.close()

    async def _find_blocked(self, user_id: str) -> Any:
        return (await self._blocking.list_blocked(user_id)).users

    async def _find_chats(self, user_id: str) -> list[Any]:
        found: list[Any] = []
        cursor: str | None = None
        while True:
            page = await self._chats.list_chats(user_id, ChatsQuery(limit=CHATS_PER_READ, cursor=cursor))
            found += page.chats
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def _read_messages(self, user_id: str, name: str) -> AsyncIterator[bytes]:
        for room in await self._rooms.of_user(user_id):
            after = room.first_visible(user_id).seq if user_id in room.members else room.last_seq
            while after < room.last_seq:
                for_range = await self._messages.read_range(room.id, after, after + SEQS_PER_READ)
                mine = [message for message in for_range if message.sender_id == user_id]
                if mine:
                    yield b"".join(_line(message, name) for message in mine)
                after += SEQS_PER_READ

    async def _add_file(self, archive: ZipStream, record: UploadRecord) -> AsyncIterator[bytes]:
        blob = await self._files.open_own(record)
        if blob is None:
            # Removed meanwhile.
            return
        try:
            with archive.entry(f"files/{record.id}-{record.file_name}", is_text=False) as entry:
                offset = 0
                while data := await blob.read(offset, FILE_CHUNK):
                    entry.write(data)
                    offset += len(data)
                    yield archive.take()
        finally:
            await blob.close()


def _line(message: Message, name: str) -> bytes:
    return msgspec.json.encode(view_message(message, name, is_read=True, viewer_id=message.sender_id)) + b"\n"
