"""Who is in which rooms with whom: read once for a person, then kept up to date as rooms are made."""

import asyncio
from collections import OrderedDict

from server.storage.mongo.rooms import MemberStore


class Peers:
    """Remembers a bounded number of people. Of each, every room that was noted is in every later answer."""

    def __init__(self, members: MemberStore, *, max_cached: int) -> None:
        self._members = members
        self._max_cached = max_cached
        self._known: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._reading: dict[str, asyncio.Task[dict[str, str]]] = {}
        self._arrivals: dict[str, dict[str, str]] = {}

    async def by_room(self, user_id: str) -> dict[str, str]:
        """The other person of each of the user's rooms. Raises `Unavailable`."""
        known = self._known.get(user_id)
        if known is not None:
            self._known.move_to_end(user_id)
            return dict(known)
        reading = self._reading.get(user_id)
        if reading is None:
            # One at a time: of two, the earlier would forget what was noted since.
            reading = self._reading[user_id] = asyncio.ensure_future(self._read(user_id))
        return dict(await asyncio.shield(reading))

    def note(self, room_id: str, user_ids: tuple[str, ...]) -> None:
        """The members of this room are stored."""
        one, other = user_ids
        for person, peer in (one, other), (other, one):
            for known in self._known.get(person), self._arrivals.get(person):
                if known is not None:
                    known[room_id] = peer

    async def _read(self, user_id: str) -> dict[str, str]:
        # A room that is made while the members are read may be missing from what is read.
        arrivals = self._arrivals[user_id] = {}
        try:
            members = await self._members.of_user(user_id)
        finally:
            del self._arrivals[user_id], self._reading[user_id]
        known = {member.room_id: member.peer_id for member in members if member.peer_id is not None} | arrivals
        self._known[user_id] = known
        while len(self._known) > self._max_cached:
            self._known.popitem(last=False)
        return known
