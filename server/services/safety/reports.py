"""Reports of messages: they keep a copy for the admins, whatever becomes of the message."""

import logging

from server.errors import Conflict
from server.requests import MessageReport
from server.services.safety.ports import MessageAccess
from server.storage.mongo.reports import ReportStore

log = logging.getLogger(__name__)


class Reports:
    def __init__(self, store: ReportStore, access: MessageAccess) -> None:
        self._store = store
        self._access = access

    async def report(self, user_id: str, request: MessageReport) -> None:
        """Keep a copy of a message. Reported again by the same user, it changes nothing.

        Raises `NotFound`, and `Conflict` for notices and for messages that are deleted.
        """
        _, message = await self._access.access_message(user_id, request.message_id)
        if message.notice is not None or message.deleted_at is not None:
            raise Conflict("A notice or a deleted message cannot be reported")
        if await self._store.insert(user_id, message, request.reason, request.text):
            log.warning("message reported message=%s reporter=%s", message.id, user_id)
