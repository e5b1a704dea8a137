"""Wires presence and typing."""

from typing import NamedTuple

from server.config.settings import Settings
from server.realtime.fan_out import FanOut
from server.services.presence.online import OnlineUsers
from server.services.presence.ports import People, Rooms
from server.services.presence.presence import Presence
from server.services.presence.typing import Typing
from server.services.presence.watchers import Watchers
from server.storage.stores import Stores


class PresenceServices(NamedTuple):
    presence: Presence
    typing: Typing


def build_presence(
    settings: Settings, stores: Stores, fan_out: FanOut, online: OnlineUsers, rooms: Rooms, people: People
) -> PresenceServices:
    options = settings.presence
    return PresenceServices(
        Presence(
            online,
            stores.presence_leases,
            rooms,
            people,
            fan_out,
            Watchers(),
            grace=options.grace,
            lease=options.lease,
        ),
        Typing(rooms, fan_out, Watchers(), timeout=settings.typing.timeout),
    )
