"""Rooms, one per pair and booking: creation, and the membership check for all other services."""

from collections.abc import Callable, Collection, Sequence

from server.blocks import BlockIndex
from server.errors import BLOCKED, Forbidden, NotFound, ValidationFailed
from server.models import Member, Room
from server.requests import RoomRequest
from server.room_state import RoomState
from server.services.rooms.direct import build_direct_room
from server.services.rooms.memberships import Memberships
from server.services.rooms.ports import Limits, People
from server.services.rooms.room_loading import RoomLoader
from server.storage.mongo.rooms import MemberStore, RoomStore


class Rooms:
    """Creates and guards rooms."""

    def __init__(
        self,
        rooms: RoomStore,
        members: MemberStore,
        people: People,
        limits: Limits,
        loader: RoomLoader,
        memberships: Memberships,
        blocks: BlockIndex,
        *,
        room_key: Callable[[], bytes],
    ) -> None:
        self._rooms = rooms
        self._members = members
        self._people = people
        self._limits = limits
        self._loader = loader
        self._memberships = memberships
        self._blocks = blocks
        self._room_key = room_key

    async def open(self, user_id: str, request: RoomRequest) -> tuple[RoomState, bool]:
        """The room of this pair and booking, created if needed; and whether it is new.

        Raises `ValidationFailed` for a room with oneself, `NotFound` if the other user is unknown or inactive or the
        user was removed from the room, and for a new room `Forbidden` if one of the two has blocked the other, and
        `RateLimited` if the user has created too many rooms.
        """
        other_id = request.other_user_id
        if other_id == user_id:
            raise ValidationFailed.at("otherUserId", "must be somebody else")
        await self._people.get(other_id)
        room, members, older_id = build_direct_room(user_id, other_id, request.booking_id, self._room_key())
        state, is_new = await self._find_either(room.id, older_id), False
        if state is None:
            if self._blocks.are_apart(user_id, other_id):
                raise Forbidden("One of the two has blocked the other", reason=BLOCKED)
            await self._limits.check_new_room(user_id)
            state, is_new = await self.create(room, members)
        if user_id not in state.members:
            raise NotFound("No such room")
        return state, is_new

    async def create(self, room: Room, members: Sequence[Member]) -> tuple[RoomState, bool]:
        """Store a room; and whether it is new. Raises `Unavailable`."""
        # Members first: a room that is there has its members. Those without a room, after a crash, are ignored.
        await self._members.create(members)
        is_new = await self._rooms.create(room)
        # The first may join a load by another caller that began before the room was stored.
        state = await self._loader.load(room.id) or await self._loader.load(room.id)
        if state is None:
            raise NotFound("No such room")
        return state, is_new

    async def forget_members(self, room_id: str) -> None:
        """Remove the members of a room that was never stored. Raises `Unavailable`."""
        await self._members.remove_all(room_id)

    async def find(self, room_id: str) -> RoomState | None:
        """The room, whoever asks. Callers check what the user may know of it."""
        return self._loader.cached(room_id) or await self._loader.load(room_id)

    def access_cached(self, user_id: str, room_id: str) -> RoomState | None:
        """As `access_room` without waiting; None if it would have to wait. Raises `NotFound`."""
        state = self._loader.cached(room_id)
        if state is not None and user_id not in state.members:
            raise NotFound("No such room")
        return state

    async def access_room(self, user_id: str, room_id: str) -> RoomState:
        """The room, for one of its members. Raises `NotFound` for other users, as for a room that does not exist."""
        state = self._loader.cached(room_id) or await self._loader.load(room_id)
        if state is None or user_id not in state.members:
            raise NotFound("No such room")
        return state

    async def access_many(self, user_id: str, room_ids: Collection[str]) -> dict[str, RoomState]:
        """Those of these rooms that the user is in, by their ids."""
        found = await self._loader.load_all(set(room_ids))
        return {room_id: state for room_id, state in found.items() if user_id in state.members}

    async def of_user(self, user_id: str) -> list[RoomState]:
        """All rooms of a user, in no order, each read to the end of its log."""
        memberships = await self._memberships.of_user(user_id)
        return list((await self.access_many(user_id, [member.room_id for member in memberships])).values())

    async def peers(self, user_id: str) -> set[str]:
        """The users who share a room with this user, of those that tell presence."""
        found, groups = await self._peers_and_groups(user_id)
        for room in (await self.access_many(user_id, groups)).values() if groups else ():
            if room.tells_presence:
                found.update(room.members)
        found.discard(user_id)
        return found

    async def find_sharing(self, user_id: str, others: Collection[str] | None = None) -> set[str]:
        """The users who share a room with this user; with `others`, those of them who do."""
        found, groups = await self._peers_and_groups(user_id)
        wanted = None if others is None else set(others) - {user_id}
        if wanted is not None:
            found &= wanted
        if groups and found != wanted:
            for room in (await self.access_many(user_id, groups)).values():
                found.update(room.members if wanted is None else wanted.intersection(room.members))
        found.discard(user_id)
        return found

    async def _peers_and_groups(self, user_id: str) -> tuple[set[str], list[str]]:
        """The others of a user's direct rooms, and the ids of the other rooms."""
        peers: set[str] = set()
        groups: list[str] = []
        for member in await self._memberships.of_user(user_id):
            if member.peer_id is not None:
                peers.add(member.peer_id)
            else:
                groups.append(member.room_id)
        return peers, groups

    async def _find_either(self, room_id: str, older_id: str) -> RoomState | None:
        """The room of a pair, which has the older id if it is from before ids had a key. One query for both ids."""
        state = self._loader.cached(room_id) or self._loader.cached(older_id)
        if state is not None:
            return state
        found = await self._loader.load_some((room_id, older_id))
        return found.get(room_id) or found.get(older_id)
