"""A member's own settings of a room: muted, what to be notified of, pinned, archived."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from server.errors import ValidationFailed
from server.events import CHAT_SETTINGS, ChatSettingsChanged
from server.models import MUTED_FOREVER, ChatSettings, now
from server.protocol import ChatSettingsView
from server.realtime.fan_out import FanOut
from server.requests import ChatSettingsPatch
from server.services.rooms.rooms import Rooms
from server.storage.mongo.chat_settings import ChatSettingsStore
from server.views import view_chat_settings

DEFAULT: Final = ChatSettings()


class OwnChatSettings:
    """Nobody else sees them. They go with the membership."""

    def __init__(self, rooms: Rooms, store: ChatSettingsStore, fan_out: FanOut) -> None:
        self._rooms = rooms
        self._store = store
        self._fan_out = fan_out

    async def change(self, user_id: str, patch: ChatSettingsPatch, skip: Any = None) -> ChatSettingsView:
        """Change the fields that the patch holds, and tell the user's other sockets. Returns all as they are then.

        Raises `ValidationFailed`, and `NotFound` for rooms of others.
        """
        given = {"notify": patch.notify, "is_pinned": patch.pinned, "is_archived": patch.archived}
        fields: dict[str, Any] = {name: value for name, value in given.items() if value is not msgspec.UNSET}
        if not isinstance(patch.muted_until, msgspec.UnsetType):
            fields["muted_until"] = _read_muted_until(patch.muted_until)
        room = await self._rooms.access_room(user_id, patch.room_id)
        if fields:
            await self._store.change(user_id, room.id, fields)
        view = view_chat_settings((await self.find(user_id, [room.id])).get(room.id, DEFAULT))
        if fields:
            self._fan_out.emit((user_id,), CHAT_SETTINGS, ChatSettingsChanged(room.id, view), skip=skip)
        return view

    async def find(self, user_id: str, room_ids: Collection[str]) -> dict[str, ChatSettings]:
        """By room; those without an entry have the defaults."""
        return await self._store.find(user_id, room_ids) if room_ids else {}


def _read_muted_until(value: str | None) -> datetime | str | None:
    """A time that is over is no time."""
    if value is None or value == MUTED_FOREVER:
        return value
    try:
        moment = msgspec.convert(value, Annotated[datetime, msgspec.Meta(tz=True)]).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        words = f"must be a time with its zone, as in RFC 3339, or {MUTED_FOREVER} or null"
        raise ValidationFailed.at("mutedUntil", words) from None
    return moment if moment > now() else None
