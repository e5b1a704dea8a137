"""Changes of groups, and who comes and goes. Every change is a notice in the log of the room."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from server.blocks import BlockIndex
from server.concurrency.keyed_locks import KeyedLocks
from server.errors import Conflict, Faults, Forbidden, NotFound
from server.models import Notice, Role, User
from server.protocol import AddedMembers
from server.requests import RoomPatch
from server.room_state import RoomState
from server.services.rooms.ended_rooms import EndedRooms
from server.services.rooms.group_checks import check_image, check_people, link_image
from server.services.rooms.ports import Attachments, Notices, People
from server.services.rooms.room_events import RoomEvents
from server.services.rooms.room_loading import RoomLoader
from server.services.rooms.room_rules import (
    check_description,
    check_group,
    check_manager,
    check_removal,
    check_role,
    check_room_name,
    find_heir,
    is_owner,
)
from server.services.rooms.room_saving import RoomSaver
from server.services.rooms.rooms import Rooms
from server.storage.mongo.chat_settings import ChatSettingsStore

# Others may leave in the same moment, one after another.
MOST_ATTEMPTS: Final = 10


class Groups:
    """A change is checked, posted as a notice, followed by the room, and stored, in this order.

    Changes of one room wait for each other. The check is repeated right before the notice is written, so that a change
    by another server in between is seen.
    """

    def __init__(
        self,
        rooms: Rooms,
        loader: RoomLoader,
        saver: RoomSaver,
        ended: EndedRooms,
        notices: Notices,
        people: People,
        attachments: Attachments,
        events: RoomEvents,
        blocks: BlockIndex,
        settings: ChatSettingsStore,
        *,
        max_members: int,
    ) -> None:
        self._rooms = rooms
        self._loader = loader
        self._saver = saver
        self._ended = ended
        self._notices = notices
        self._people = people
        self._attachments = attachments
        self._events = events
        self._blocks = blocks
        self._settings = settings
        self._max_members = max_members
        self._locks = KeyedLocks()

    async def change(self, user_id: str, room_id: str, patch: RoomPatch) -> RoomState:
        """Change name, description, image, visibility or history. What is the same changes nothing.

        Raises `ValidationFailed`, `NotFound`, `Conflict` for a direct room, and `Forbidden` for plain members.
        """
        given = {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not msgspec.UNSET}
        with Faults() as faults:
            if "name" in given:
                given["name"] = faults.of(check_room_name, given["name"])
            if "description" in given:
                given["description"] = faults.of(check_description, given["description"])
            if "image" in given:
                faults.of(check_image, given["image"], self._attachments)
        room = await self._access_group(user_id, room_id)
        async with self._locks.of(room_id):
            check_manager(room, user_id)
            details = msgspec.structs.replace(room.details, **given)
            if details == room.details:
                return room
            by = await self._people.get(user_id)
            former_image = room.details.image
            if details.image != former_image:
                await link_image(self._attachments, user_id, details.image, room_id)
            if details.name != room.details.name:
                notice = Notice("RENAMED", details=details)
                content = f"{by.full_name} renamed the group to {details.name}"
            else:
                notice = Notice("CHANGED", details=details)
                content = f"{by.full_name} changed the group"
            await self._post(room, by, content, notice, lambda now: check_manager(now, user_id))
            if former_image is not None and details.image != former_image:
                await self._attachments.release(former_image, room_id)
        return room

    async def add_members(self, user_id: str, room_id: str, user_ids: Sequence[str]) -> AddedMembers:
        """Add people; who is in stays as they are. Raises as `change`: if one cannot be added, nobody is."""
        room = await self._access_group(user_id, room_id)
        async with self._locks.of(room_id):
            check_manager(room, user_id)
            added = [other for other in dict.fromkeys(user_ids) if other not in room.members]
            people = await check_people(self._people, self._blocks, user_id, added, user_ids)
            if added:
                by = await self._people.get(user_id)

                def check(now: RoomState) -> None:
                    check_manager(now, user_id)
                    self._check_size(now, added)

                check(room)
                names = ", ".join(people[other].full_name for other in added)
                await self._loader.note_former(room, added)
                notice = Notice("ADDED", tuple(added))
                await self._post(room, by, f"{by.full_name} added {names}", notice, check)
            return AddedMembers(added, len(room.members))

    async def join(self, user_id: str, room_id: str) -> RoomState:
        """Join an open room. Raises `NotFound` for others, `Conflict` if the room is full."""
        room = await self._rooms.find(room_id)
        if room is None or (user_id not in room.members and room.details.visibility != "OPEN"):
            raise NotFound("No such room")
        check_group(room)
        with room.pinned():
            async with self._locks.of(room_id):
                if user_id not in room.members:
                    by = await self._people.get(user_id)

                    def check(now: RoomState) -> None:
                        if now.details.visibility != "OPEN":
                            raise NotFound("No such room")
                        self._check_size(now, [user_id])

                    check(room)
                    await self._loader.note_former(room, [user_id])
                    await self._post(room, by, f"{by.full_name} joined", Notice("JOINED", (user_id,)), check)
        return room

    async def change_role(self, user_id: str, room_id: str, member_id: str, role: Role) -> RoomState:
        """Owners give any role; admins make admins of members.

        Raises `Conflict` for the last owner, else as `change`.
        """
        room = await self._access_group(user_id, room_id)
        async with self._locks.of(room_id):
            check_role(room, user_id, member_id, role)
            if room.role_of(member_id) != role:
                by, member = await self._people.get(user_id), (await self._people.get_many([member_id]))[member_id]
                await self._post(
                    room,
                    by,
                    f"{by.full_name} made {member.full_name} {role.lower()}",
                    Notice("ROLE", (member_id,), role),
                    lambda now: check_role(now, user_id, member_id, role),
                )
        return room

    async def remove_member(self, user_id: str, room_id: str, member_id: str) -> None:
        """Leave, or remove somebody: owners anybody, admins plain members. The last one to leave ends the room.

        If no owner stays, the longest-serving admin becomes one, else the longest-serving member.
        """
        room = await self._access_group(user_id, room_id)
        member_id = user_id if member_id == "me" else member_id
        async with self._locks.of(room_id):
            check_removal(room, user_id, member_id)
            if len(room.members) == 1:
                await self._end(room)
                return
            heir = find_heir(room, member_id)
            is_own = member_id == user_id
            member = (await self._people.get_many([member_id]))[member_id]
            # Whoever leaves may have an account no more.
            by = member if is_own else await self._people.get(user_id)
            content = f"{by.full_name} left" if is_own else f"{by.full_name} removed {member.full_name}"

            def check(now: RoomState) -> None:
                check_removal(now, user_id, member_id)
                if find_heir(now, member_id) != heir:
                    raise Conflict("The room has just changed")

            await self._post(room, by, content, Notice("LEFT" if is_own else "REMOVED", (member_id,), heir=heir), check)
            await self._settings.remove(member_id, room_id)

    async def leave_all(self, user_id: str) -> None:
        """Leave every group, and drop the user's own settings of all rooms. Raises `Unavailable`."""
        for room in await self._rooms.of_user(user_id):
            if room.type == "GROUP":
                await self._leave(user_id, room.id)
            await self._settings.remove(user_id, room.id)

    async def _leave(self, user_id: str, room_id: str) -> None:
        for _ in range(MOST_ATTEMPTS):
            try:
                await self.remove_member(user_id, room_id, user_id)
            except NotFound:
                return
            except Conflict:
                # The heir has left meanwhile: another one is found.
                continue
            return

    async def delete(self, user_id: str, room_id: str) -> None:
        """End the room for everybody. Raises `Forbidden` unless the user is an owner, else as `change`."""
        room = await self._access_group(user_id, room_id)
        async with self._locks.of(room_id):
            if not is_owner(room, user_id):
                raise Forbidden("Only owners may do this")
            await self._end(room)

    async def _end(self, room: RoomState) -> None:
        await self._ended.end(room)
        self._events.end(room)

    async def _post(
        self, room: RoomState, by: User, content: str, notice: Notice, check: Callable[[RoomState], None]
    ) -> None:
        """Post, and store what follows from it before anybody is told that it is done."""
        with room.pinned():
            await self._notices.post(room, by, content, notice, check)
            await self._saver.save_room(room)

    async def _access_group(self, user_id: str, room_id: str) -> RoomState:
        room = await self._rooms.access_room(user_id, room_id)
        check_group(room)
        return room

    def _check_size(self, room: RoomState, added: Sequence[str]) -> None:
        if len(room.members) + sum(1 for one in added if one not in room.members) > self._max_members:
            raise Conflict(f"A room has at most {self._max_members} members (rooms.max_members)")
