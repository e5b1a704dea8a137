"""Tells two people that they no longer see each other's presence and typing, or see it again."""

from server.events import USER_OFFLINE, USER_ONLINE, UserOffline, UserOnline
from server.models import now
from server.protocol import wire_time
from server.realtime.fan_out import FanOut
from server.realtime.frames import Frame, event_frame
from server.services.presence.online import OnlineUsers
from server.services.presence.ports import Rooms
from server.services.presence.typing import Typing
from server.services.presence.watchers import Watchers


class Separation:
    def __init__(self, online: OnlineUsers, rooms: Rooms, fan_out: FanOut, watchers: Watchers, typing: Typing) -> None:
        self._online = online.user_ids
        self._rooms = rooms
        self._fan_out = fan_out
        self._watchers = watchers
        self._typing = typing

    async def separate(self, one: str, other: str) -> None:
        """To be called before the two are apart: for each of them, the other goes offline and stops typing."""
        self._typing.separate(one, other)
        await self._tell(one, other, USER_OFFLINE)

    async def unite(self, one: str, other: str) -> None:
        """To be called when the two are apart no more: each of them hears that the other is online, if so."""
        await self._tell(one, other, USER_ONLINE)

    async def _tell(self, one: str, other: str, event: str) -> None:
        are_peers = other in await self._rooms.peers(one)
        for user_id, told in ((one, other), (other, one)):
            if user_id not in self._online:
                continue
            frame = _frame(event, user_id)
            if are_peers:
                self._fan_out.send((told,), frame)
            else:
                self._watchers.send(user_id, frame, skip=(), only=(told,))


def _frame(event: str, user_id: str) -> Frame:
    if event == USER_ONLINE:
        return event_frame(event, UserOnline(user_id))
    return event_frame(event, UserOffline(user_id, wire_time(now())))
