"""Makes groups. The first message of each is the notice that it was created."""

import hashlib
import json
import secrets
from collections.abc import Callable

from server.blocks import BlockIndex
from server.concurrency.keyed_locks import KeyedLocks
from server.errors import Faults, NotFound, ValidationFailed
from server.models import Member, Notice, Room, RoomDetails, User, now
from server.requests import GroupRequest
from server.room_state import RoomState
from server.services.rooms.group_checks import check_image, check_people, link_image
from server.services.rooms.ports import Attachments, Limits, Notices, People
from server.services.rooms.room_rules import check_description, check_room_name
from server.services.rooms.rooms import Rooms


class GroupCreation:
    """Requests with the same `clientRoomId` of the same maker wait for each other."""

    def __init__(
        self,
        rooms: Rooms,
        notices: Notices,
        people: People,
        limits: Limits,
        attachments: Attachments,
        blocks: BlockIndex,
        *,
        max_members: int,
        room_key: Callable[[], bytes],
    ) -> None:
        self._rooms = rooms
        self._notices = notices
        self._people = people
        self._limits = limits
        self._attachments = attachments
        self._blocks = blocks
        self._max_members = max_members
        self._room_key = room_key
        self._locks = KeyedLocks()

    async def create(self, user_id: str, request: GroupRequest) -> tuple[RoomState, bool]:
        """A new group, its maker the owner; or the one that they made under the same `clientRoomId`, and False.

        Raises `ValidationFailed`, `RateLimited`, and `NotFound` if the maker has left the earlier one.
        """
        with Faults() as faults:
            name = faults.of(check_room_name, request.name)
            description = faults.of(check_description, request.description)
            faults.of(check_image, request.image, self._attachments)
        room_id = self._derive_id(user_id, request.client_room_id)
        async with self._locks.of(room_id):
            found = await self._rooms.find(room_id)
            if found is not None:
                if user_id not in found.members:
                    raise NotFound("No such room")
                if found.last_seq == 0:
                    # A crash came before its notice.
                    await self._tell_created(found, await self._people.get(user_id))
                return found, False
            others = [other for other in dict.fromkeys(request.user_ids) if other != user_id]
            maker = await self._people.get(user_id)
            await check_people(self._people, self._blocks, user_id, others, request.user_ids)
            if len(others) >= self._max_members:
                raise ValidationFailed.at("userIds", f"a room has at most {self._max_members} members")
            await self._limits.check_new_room(user_id)
            await link_image(self._attachments, user_id, request.image, room_id)
            if request.client_room_id is not None:
                # A crash may have left members of an earlier request.
                await self._rooms.forget_members(room_id)
            moment = now()
            details = RoomDetails(
                name,
                description,
                request.image,
                request.visibility,
                request.history or ("ALL" if request.visibility == "OPEN" else "JOINED"),
            )
            made, is_new = await self._rooms.create(
                Room(room_id, user_id, None, moment, "GROUP", details),
                [
                    Member(room_id, member, role="OWNER" if member == user_id else "MEMBER", joined_at=moment)
                    for member in (user_id, *others)
                ],
            )
            await self._tell_created(made, maker)
            return made, is_new

    async def _tell_created(self, room: RoomState, maker: User) -> None:
        notice = Notice("CREATED", tuple(room.others(maker.id)))
        with room.pinned():
            await self._notices.post(room, maker, f"{maker.full_name} created the group", notice, _allow)

    def _derive_id(self, user_id: str, client_room_id: str | None) -> str:
        if client_room_id is None:
            return secrets.token_hex(16)
        key = json.dumps(["group", user_id, client_room_id], ensure_ascii=False).encode()
        return hashlib.blake2b(key, digest_size=16, key=self._room_key()).hexdigest()


def _allow(_room: RoomState) -> None:
    """Nobody else knows the room yet."""
