"""Migrates the database of an older server to the current version, at the start."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from server.models import Member
from server.storage.mongo.identity import IdentityStore
from server.storage.mongo.messages import MessageStore
from server.storage.mongo.rooms import MemberStore, RoomStore
from server.storage.mongo.users import Users

log = logging.getLogger(__name__)

# Users migrated together: a crash repeats at most these.
USER_BATCH: Final = 100
ROOM_BATCH: Final = 100
MESSAGE_BATCH: Final = 500
PROGRESS_SECONDS: Final = 5.0


class Index(Protocol):
    async def renew(self, user_ids: Sequence[str]) -> None: ...

    async def drop_older(self) -> None: ...


class Attachments(Protocol):
    async def link_copy(self, url: str, message_id: str) -> bool: ...


class Upgrades:
    """One step per version, from the one before. A step that was interrupted anywhere is run again."""

    def __init__(
        self,
        identities: IdentityStore,
        users: Users,
        index: Index,
        rooms: RoomStore,
        members: MemberStore,
        messages: MessageStore,
        attachments: Attachments,
    ) -> None:
        self._identities = identities
        self._users = users
        self._index = index
        self._rooms = rooms
        self._members = members
        self._messages = messages
        self._attachments = attachments
        self.has_moved = False
        self._steps: dict[int, Callable[[], Awaitable[None]]] = {
            2: self._renew_users,
            3: self._complete_members,
            4: self._note_attachments,
            5: self._renew_users,
        }

    async def run(self) -> None:
        """To be called before clients are served. Raises `Unavailable`: the next start continues from there."""
        before = self._identities.known.version
        self.has_moved = before < max(self._steps)
        for version, step in self._steps.items():
            if version > before:
                log.warning("database upgrade started version=%d target=%d", version - 1, version)
                await step()
                await self._identities.set_version(version)
                log.warning("database upgrade finished version=%d", version)

    async def _renew_users(self) -> None:
        """Key all emails by the current spelling and index all users by the current terms, whenever they registered."""
        user_ids = await self._users.find_ids()
        logged_at = time.monotonic()
        for start in range(0, len(user_ids), USER_BATCH):
            batch = user_ids[start : start + USER_BATCH]
            await self._users.fold_emails(batch)
            await self._index.renew(batch)
            if time.monotonic() - logged_at >= PROGRESS_SECONDS:
                logged_at = time.monotonic()
                log.warning(
                    "search index upgrade users=%d total=%d", min(start + USER_BATCH, len(user_ids)), len(user_ids)
                )
        log.warning("search index upgrade users=%d total=%d", len(user_ids), len(user_ids))
        await self._index.drop_older()

    async def _complete_members(self) -> None:
        """Store the members that rooms lack: a crash of an older server may have left a room without them.

        Version 2 made them again from the room whenever it was loaded. Now members alone tell who is in a room.
        """
        checked = completed = 0
        position, logged_at = "", time.monotonic()
        while rooms := await self._rooms.find_older(position, ROOM_BATCH):
            stored = await self._members.of_rooms([room_id for room_id, _ in rooms])
            having = {(member.room_id, member.user_id) for member in stored}
            missing = [
                Member(room_id=room_id, user_id=user_id, peer_id=peer_id)
                for room_id, (one, other) in rooms
                for user_id, peer_id in ((one, other), (other, one))
                if (room_id, user_id) not in having
            ]
            if missing:
                await self._members.create(missing)
            checked, completed, position = checked + len(rooms), completed + len(missing), rooms[-1][0]
            if time.monotonic() - logged_at >= PROGRESS_SECONDS:
                logged_at = time.monotonic()
                log.warning("room members upgrade rooms=%d completed=%d", checked, completed)
        log.warning("room members upgrade rooms=%d completed=%d", checked, completed)

    async def _note_attachments(self) -> None:
        """Note at each upload which messages use it, so that it can go with the last of them."""
        checked, position, logged_at = 0, "", time.monotonic()
        while messages := await self._messages.find_attachments(position, MESSAGE_BATCH):
            for message in messages:
                if message.attachment_url is not None:
                    await self._attachments.link_copy(message.attachment_url, message.id)
            checked, position = checked + len(messages), messages[-1].id
            if time.monotonic() - logged_at >= PROGRESS_SECONDS:
                logged_at = time.monotonic()
                log.warning("attachments upgrade messages=%d", checked)
        log.warning("attachments upgrade messages=%d", checked)
