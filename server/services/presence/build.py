"""Wires presence and typing."""

from typing import NamedTuple

from server.blocks import BlockIndex
from server.config.settings import Settings
from server.realtime.fan_out import FanOut
from server.services.presence.online import OnlineUsers
from server.services.presence.ports import People, Rooms
from server.services.presence.presence import Presence
from server.services.presence.separation import Separation
from server.services.presence.typing import Typing
from server.services.presence.watchers import Watchers
from server.storage.stores import Stores


class PresenceServices(NamedTuple):
    presence: Presence
    typing: Typing
    separation: Separation


def build_presence(
    settings: Settings,
    stores: Stores,
    fan_out: FanOut,
    online: OnlineUsers,
    rooms: Rooms,
    people: People,
    blocks: BlockIndex,
) -> PresenceServices:
    options = settings.presence
    watchers = Watchers()
    typing = Typing(rooms, fan_out, Watchers(), timeout=settings.typing.timeout)
    return PresenceServices(
        Presence(
            online,
            stores.presence_leases,
            rooms,
            people,
            fan_out,
            watchers,
            blocks,
            grace=options.grace,
            lease=options.lease,
        ),
        typing,
        Separation(online, rooms, fan_out, watchers, typing),
    )
