"""People who are shut out under load and let in again: blocked by a friend, or deactivated by the other service."""

import asyncio
import itertools
import json
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from tests.support.issuer import ALSO_EXTERNAL, SHARED_SECRET, sign
from tests.support.people import Person, Town, unique
from tests.support.rest import API, MESSAGES
from tests.torture.chat_socket import ChatSocket, Lost
from tests.torture.devices import FIRST_RECONNECT_PAUSE, World
from tests.torture.senders import ATTEMPTS, INTENTS

ANSWER_DEADLINE = 10.0
RETRY_PAUSE = 0.2
WRITE_PAUSE = 0.25
# How long somebody is out, and in, on average.
SHUT_SECONDS = 1.5
LIFE = 30 * 86_400.0
# Accounts that are elsewhere can be deactivated by a call.
SETTINGS: dict[str, object] = dict(ALSO_EXTERNAL)


class Outcast:
    """Two friends who write to each other. One is shut out and let in again, each time until the outcome is known.

    A block silences both, a deactivation the one who is deactivated.
    """

    def __init__(
        self, world: World, http: AsyncHTTPClient, url: str, friends: tuple[Person, Person], room_id: str, writer: str
    ) -> None:
        """The second friend is shut out: deactivated by the token `writer`, or blocked by the first if it is empty.

        `url` leads to the server itself, as what was given up must not arrive later.
        """
        self._world = world
        self._http = http
        self._url = url
        self._friends = friends
        self._writer = writer
        self._sockets: dict[str, ChatSocket] = {}
        self.room_id = room_id

    @property
    def friend(self) -> Person:
        """The one who is never deactivated."""
        return self._friends[0]

    async def live(self) -> None:
        """The sockets of both, again and again until the round is over."""
        await asyncio.gather(*(self._connect(person) for person in self._friends))

    async def write(self) -> None:
        """Both write, by socket and REST in turns, while one is shut out and let in; at the end all are in."""
        await asyncio.gather(self._shut_and_open(), *(self._send_on(person) for person in self._friends))

    async def _shut_and_open(self) -> None:
        choose, outcast = self._world.random, self._friends[1]
        silenced = [outcast.id] if self._writer else [person.id for person in self._friends]
        while not self._world.is_settling:
            await asyncio.sleep(choose.expovariate(1 / SHUT_SECONDS))
            await self._call_until_done(is_out=True)
            self._world.history.note("shut", r=self.room_id, users=silenced)
            await asyncio.sleep(choose.expovariate(1 / SHUT_SECONDS))
            self._world.history.note("opening", r=self.room_id, users=silenced)
            await self._call_until_done(is_out=False)

    async def _call_until_done(self, *, is_out: bool) -> None:
        friend, outcast = self._friends
        if self._writer:
            profile = {"firstName": "Out", "lastName": "Cast", "isActive": not is_out}
            call = "PUT", f"{API}/users/{outcast.id}", profile, self._writer
        else:
            call = "POST" if is_out else "DELETE", f"{API}/users/{outcast.id}/block", None, friend.access_token
        while not self._world.is_over and (await self._request(self._url, *call))[0] not in (200, 204):
            await asyncio.sleep(RETRY_PAUSE)

    async def _connect(self, person: Person) -> None:
        world = self._world

        def hear(event: str, data: Any) -> None:
            if event == "message:new" and data["roomId"] == self.room_id:
                world.history.note("overheard", r=self.room_id, u=person.id, by=data["senderId"], b=data["content"])

        while not world.is_over:
            world.history.note("knock", u=person.id)
            try:
                socket = await ChatSocket.open(world.url, person.access_token, hear, acks=True)
            except Lost:
                await asyncio.sleep(FIRST_RECONNECT_PAUSE)
                continue
            world.history.note("let-in", u=person.id)
            self._sockets[person.id] = socket
            await socket.ended.wait()
            del self._sockets[person.id]
            # Not `ended`: what it had heard before is noted by now.
            await asyncio.sleep(0)

    async def _send_on(self, person: Person) -> None:
        choose = self._world.random
        for turn in itertools.count():
            if self._world.is_settling:
                return
            await asyncio.sleep(choose.expovariate(1 / WRITE_PAUSE))
            await self._send(person, self._sockets.get(person.id) if turn % 2 else None)

    async def _send(self, person: Person, socket: ChatSocket | None) -> None:
        history, number, intent = self._world.history, next(ATTEMPTS), next(INTENTS)
        body = f"{intent} whether you hear me or not"
        # Without a socket's number: these two write on several at once.
        history.note("send", n=number, i=intent, u=person.id, r=self.room_id, b=body, c=None, s=None)
        if socket is not None:
            try:
                ack = await socket.call("message:send", {"roomId": self.room_id, "content": body}, ANSWER_DEADLINE)
            except Lost:
                history.note("unknown", n=number)
                return
            answer, code = (ack["message"], "") if ack["ok"] else (None, ack["error"]["code"])
        else:
            path = f"{MESSAGES}/chats/{self.room_id}/messages"
            status, found = await self._request(self._world.url, "POST", path, {"content": body}, person.access_token)
            if status == 599 or not isinstance(found, dict):
                history.note("unknown", n=number)
                return
            answer, code = (found, "") if status == 201 else (None, found["code"])
        if answer is not None:
            history.note("ack", n=number, m=answer["messageId"], q=answer["seq"])
        else:
            history.note("refused", n=number, code=code)

    async def _request(
        self, url: str, method: str, path: str, body: dict[str, Any] | None, token: str
    ) -> tuple[int, Any]:
        """The status and the body of the answer; 599 if there is none."""
        request = HTTPRequest(
            f"{url}{path}",
            method=method,
            body=json.dumps(body) if body is not None else "{}" if method == "POST" else None,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            request_timeout=ANSWER_DEADLINE,
        )
        try:
            response = await self._http.fetch(request, raise_error=False)
            return response.code, json.loads(response.body or b"null")
        except (HTTPClientError, OSError, ValueError):
            return 599, None


def sign_writer() -> str:
    """A token that may deactivate."""
    return sign(unique("writer"), SHARED_SECRET, "HS256", aud=None, life=LIFE, scope="users:write")


async def external_person(town: Town) -> Person:
    """Somebody whose account is elsewhere."""
    user_id = unique("elsewhere")
    token = sign(user_id, SHARED_SECRET, "HS256", aud=None, life=LIFE)
    answer = await town.rest.call("GET", f"{API}/users/me", token=token)
    assert answer.status == 200, answer
    return Person(town, answer.body, token, "")
