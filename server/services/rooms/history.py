"""Reads history: pages of a room. Every answer is bounded in bytes."""

from typing import Final

import msgspec

from server.errors import NotFound, ValidationFailed
from server.protocol import HistoryPage, Pagination
from server.requests import HistoryQuery
from server.services.rooms.log_reading import Budget, LogReader
from server.services.rooms.ports import Limits
from server.services.rooms.rooms import Rooms

# A page of the usual 50 messages stays below it, even if each has 10,000 characters of four bytes.
PAGE_BYTES: Final = 2 * 1024 * 1024


class History:
    """Answers with bounded ranges of the log, so that a page costs the same at any depth."""

    def __init__(self, rooms: Rooms, log: LogReader, limits: Limits) -> None:
        self._rooms = rooms
        self._log = log
        self._limits = limits

    async def read_page(self, user_id: str, room_id: str, query: HistoryQuery) -> HistoryPage:
        """With `page` the newest message comes first; with `before` or `after` the oldest.

        Raises `ValidationFailed` if more than one of the three is given, and `NotFound` if the user is no member.
        """
        given = [name for name in ("page", "before", "after") if getattr(query, name) is not None]
        if len(given) > 1:
            raise ValidationFailed.at(given[1], f"cannot go together with {given[0]}")
        room = await self._rooms.access_room(user_id, room_id)
        # Members who may not see what was before they joined have a log that begins there.
        end, hidden, limit = room.last_seq, room.first_visible(user_id).seq, query.limit
        total = end - hidden
        if query.after is not None:
            first = max(min(query.after, end), hidden) + 1
            last = min(first + limit - 1, end)
        else:
            page = query.page or 1
            newest = end - (page - 1) * limit
            last = newest if query.before is None else min(query.before - 1, end)
            first = max(hidden + 1, last - limit + 1)
        # Read from the client's end of the range, so that messages which do not fit are on the next page.
        is_newest_first = query.after is None
        async with self._log.slot(user_id):
            budget = Budget(PAGE_BYTES)
            messages = await self._log.read(user_id, room, first, last, budget, is_newest_first=is_newest_first)
            self._limits.charge_read(user_id, budget.used)
        if user_id not in room.members:
            # Removed meanwhile.
            raise NotFound("No such room")
        is_cut = len(messages) < last - first + 1
        if is_cut and is_newest_first:
            first = last - len(messages) + 1
        elif is_cut:
            last = first + len(messages) - 1
        if query.before is not None:
            messages.reverse()
        has_older = bool(messages) and first > hidden + 1
        has_newer = last < end
        return HistoryPage(
            messages=messages,
            pagination=Pagination(
                current_page=query.page or 1 + max(0, end - max(last, hidden)) // limit,
                total_pages=-(-total // limit),
                total_items=total,
                has_next=has_newer if query.after is not None else has_older,
                has_prev=first > hidden + 1 if query.after is not None else has_newer,
                next_before=first if is_cut and is_newest_first else msgspec.UNSET,
                next_after=last if is_cut and not is_newest_first else msgspec.UNSET,
            ),
        )
