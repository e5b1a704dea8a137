"""People of the tests: fresh accounts with unique emails, their REST calls and their devices."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.support.device import WEBSOCKET, Device
from tests.support.raw_socket import RawSocket
from tests.support.rest import API, MESSAGES, NOTHING, Answer, Rest

PASSWORD = "correct horse battery"


def unique(stem: str = "x") -> str:
    """A name that no other test uses."""
    return f"{stem}-{uuid4().hex}"


class Person:
    """A registered user. Calls go out with their token."""

    def __init__(self, town: "Town", user: dict[str, Any], access_token: str, refresh_token: str) -> None:
        self.town = town
        self.user = user
        self.access_token = access_token
        self.refresh_token = refresh_token

    @property
    def id(self) -> str:
        return str(self.user["id"])

    @property
    def name(self) -> str:
        return str(self.user["fullName"])

    async def call(self, method: str, path: str, body: Any = NOTHING, **options: Any) -> Answer:
        return await self.town.rest.call(method, path, body, token=self.access_token, **options)

    async def get(self, path: str, **query: object) -> Answer:
        return await self.call("GET", path, query=query)

    async def post(self, path: str, body: Any) -> Answer:
        return await self.call("POST", path, body)

    async def open_room(self, other: "Person", booking_id: str | None = None) -> str:
        """The id of the room with someone; made where there was none."""
        request = {"otherUserId": other.id} | ({"bookingId": booking_id} if booking_id is not None else {})
        answer = await self.post(f"{MESSAGES}/chat-rooms", request)
        assert answer.status in (200, 201), answer
        return str(answer.body["id"])

    async def send(self, room_id: str, content: str = "Hello!", **fields: Any) -> dict[str, Any]:
        """Send over REST and return the message."""
        answer = await self.post(f"{MESSAGES}/chats/{room_id}/messages", {"content": content, **fields})
        assert answer.status in (200, 201), answer
        return dict(answer.body)

    async def room(self, room_id: str) -> dict[str, Any]:
        answer = await self.get(f"{MESSAGES}/chat-rooms/{room_id}")
        assert answer.status == 200, answer
        return dict(answer.body)

    async def history(self, room_id: str, **query: object) -> dict[str, Any]:
        answer = await self.get(f"{MESSAGES}/chats/{room_id}/messages", **query)
        assert answer.status == 200, answer
        return dict(answer.body)

    async def chats(self, **query: object) -> dict[str, Any]:
        answer = await self.get(f"{MESSAGES}/chats", **query)
        assert answer.status == 200, answer
        return dict(answer.body)

    async def chat(self, room_id: str) -> dict[str, Any]:
        """This person's line of the chat list for one room."""
        return next(chat for chat in (await self.chats(limit=100))["chats"] if chat["chatId"] == room_id)

    async def connect(self, transports: Sequence[str] = WEBSOCKET, *, acks: bool = True) -> Device:
        """A connected device of this person; closed at the end of the test."""
        return await self.town.device(acks=acks).connect(self.access_token, transports=transports)


class Town:
    """One test's view of one server: makes people and devices, and closes everything that it made."""

    def __init__(self, url: str, certificate: Path | None = None) -> None:
        """`certificate` is the one to trust, where the server's is of our own making."""
        self.url = url
        self.rest = Rest(url, certificate)
        self._certificate = certificate
        self._devices: list[Device] = []
        self._raws: list[RawSocket] = []

    def device(self, *, acks: bool = True) -> Device:
        """A device that is not connected yet."""
        device = Device(self.url, acks=acks, verifies=self._certificate is None)
        self._devices.append(device)
        return device

    async def raw(self, **options: Any) -> RawSocket:
        """A raw WebSocket that has had its answer to the upgrade; options as of `RawSocket.open`."""
        raw = await RawSocket.open(self.url, **options)
        self._raws.append(raw)
        return raw

    async def raw_session(self, **options: Any) -> RawSocket:
        """A raw Engine.IO session without a namespace."""
        raw = await self.raw(**options)
        await raw.begin_session()
        return raw

    async def raw_chat(self, token: str, **options: Any) -> RawSocket:
        """A raw connection that `/chat` has accepted."""
        raw = await self.raw_session(**options)
        await raw.enter_chat(token)
        return raw

    async def person(self, first_name: str = "John", last_name: str = "Doe", **fields: Any) -> Person:
        """Register someone new."""
        request = {"email": f"{unique('p')}@example.com", "password": PASSWORD}
        request |= {"firstName": first_name, "lastName": last_name, **fields}
        answer = await self.rest.call("POST", f"{API}/auth/register", request)
        assert answer.status == 201, answer
        return Person(self, answer.body["user"], answer.body["accessToken"], answer.body["refreshToken"])

    async def people(self, count: int) -> list[Person]:
        return list(await asyncio.gather(*(self.person(f"P{number}") for number in range(count))))

    async def pair(self) -> tuple[Person, Person, str]:
        """Two people and the id of their room."""
        one, other = await self.people(2)
        return one, other, await one.open_room(other)

    def resident(self, person: Person) -> Person:
        """The same person, seen from this test (another loop, maybe another port)."""
        return Person(self, person.user, person.access_token, person.refresh_token)

    async def close(self) -> None:
        await asyncio.gather(*(one.close() for one in (*self._devices, *self._raws)), return_exceptions=True)
        self.rest.close()
