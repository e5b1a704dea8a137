"""Pages of a room's members: owners, admins, then by the time when they joined."""

from server.lookalikes import fold
from server.protocol import MemberLine, MemberPage, wire_time
from server.requests import MembersQuery
from server.services.rooms.cursor import read_cursor, write_cursor
from server.services.rooms.ports import People
from server.services.rooms.rooms import Rooms
from server.views import Rank, name_of, rank_of


class MemberList:
    def __init__(self, rooms: Rooms, people: People) -> None:
        self._rooms = rooms
        self._people = people

    async def list_members(self, user_id: str, room_id: str, query: MembersQuery) -> MemberPage:
        """One page of those whose names contain `q`, and the number of all of them. Raises `NotFound` for others.

        The cursor is a rank: who gets another role meanwhile may be on two pages or on none.
        """
        after = None if query.cursor is None else read_cursor(query.cursor, Rank)
        room = await self._rooms.access_room(user_id, room_id)
        found = sorted(room.members.values(), key=rank_of)
        wanted = fold(query.q.strip())
        if wanted:
            named = await self._people.get_many([member.user_id for member in found])
            found = [member for member in found if wanted in fold(name_of(named.get(member.user_id)))]
        total = len(found)
        left = [member for member in found if after is None or rank_of(member) > after]
        page = left[: query.limit]
        people = await self._people.get_many([member.user_id for member in page])
        users = {user.id: user for user in await self._people.views(list(people.values()), user_id)}
        apart = room.apart_from(user_id)
        return MemberPage(
            members=[
                MemberLine(
                    user=users[member.user_id],
                    role=member.role,
                    joined_at=wire_time(member.joined_at or room.created_at),
                    last_read_seq=0 if member.user_id in apart else member.read.seq,
                    last_delivered_seq=0 if member.user_id in apart else member.delivered,
                )
                for member in page
                if member.user_id in users
            ],
            total=total,
            next_cursor=write_cursor(rank_of(page[-1])) if len(left) > len(page) else None,
        )
