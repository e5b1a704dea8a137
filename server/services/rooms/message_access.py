"""Access to single messages by their ids, for members who may see them."""

from collections.abc import Collection

from server.errors import NotFound
from server.models import Message, Quote
from server.room_state import RoomState
from server.services.rooms.ports import Log, People
from server.services.rooms.rooms import Rooms
from server.storage.mongo.messages import MessageStore
from server.views import name_of


class MessageAccess:
    def __init__(self, rooms: Rooms, log: Log, store: MessageStore) -> None:
        self._rooms = rooms
        self._log = log
        self._store = store

    async def access_message(self, user_id: str, message_id: str, room_id: str = "") -> tuple[RoomState, Message]:
        """The message and its room, which must be `room_id` if that is given.

        Raises `NotFound` also for messages that the user may not see, as if they did not exist.
        """
        message = self._log.find_recent(message_id) or await self._store.find(message_id)
        if message is None or (room_id and message.room_id != room_id):
            raise NotFound("No such message")
        try:
            room = await self._rooms.access_room(user_id, message.room_id)
        except NotFound:
            raise NotFound("No such message") from None
        if not room.may_see(user_id, message.seq):
            raise NotFound("No such message")
        return room, message


class Quotes:
    """What replies show of the messages that they answer, as these are now."""

    def __init__(self, log: Log, store: MessageStore, people: People) -> None:
        self._log = log
        self._store = store
        self._people = people

    async def quote(self, message: Message) -> Quote:
        """What a reply to this message shows of it."""
        people = await self._people.get_many([message.sender_id])
        return Quote(message, name_of(people.get(message.sender_id)))

    async def find(self, messages: Collection[Message]) -> dict[str, Quote]:
        """The quotes of those of these messages that reply to one, by their `reply_to`. Raises `Unavailable`."""
        wanted = {message.reply_to for message in messages if message.reply_to is not None}
        if not wanted:
            return {}
        found = {one: message for one in wanted if (message := self._log.find_recent(one)) is not None}
        if len(found) < len(wanted):
            found |= await self._store.find_many(wanted - found.keys())
        people = await self._people.get_many({message.sender_id for message in found.values()})
        return {one: Quote(message, name_of(people.get(message.sender_id))) for one, message in found.items()}
