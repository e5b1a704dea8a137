"""People who come to groups and go under load: added, removed, joining and leaving, listening and writing meanwhile."""

import asyncio
import contextlib
import itertools
import json
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from tests.support.people import Person
from tests.support.rest import MESSAGES
from tests.torture.changed_state import digest
from tests.torture.chat_socket import ChatSocket, Lost
from tests.torture.devices import FIRST_RECONNECT_PAUSE, LONGEST_RECONNECT_PAUSE, SOCKET_NUMBERS, World
from tests.torture.senders import ATTEMPTS, INTENTS

ANSWER_DEADLINE = 10.0
RETRY_PAUSE = 0.2
SESSION_SECONDS = 4.0
SHORTEST_SESSION = 0.5
LOOK_PAUSE = 0.1
# Between two things that a guest writes.
WRITE_PAUSE = 0.5
# Of the comings and goings, those that a guest does alone; the host does the others.
OWN_SHARE = 0.3
MOVES = itertools.count(1)


class Guest:
    """One device of somebody who is in `room_ids` at times. It takes what it hears of them and never asks before."""

    def __init__(self, world: World, person: Person, room_ids: list[str]) -> None:
        self._world = world
        self.person = person
        self.room_ids = room_ids
        # As the events and `sync` have told this device.
        self.is_in = dict.fromkeys(room_ids, False)
        self._have: dict[str, int] = dict.fromkeys(room_ids, 0)
        self._number = 0
        self.socket: ChatSocket | None = None
        self.is_synced = False

    async def live(self) -> None:
        """Connected for a while, gone without a word, and back; from settling on, connected only."""
        world, pause = self._world, FIRST_RECONNECT_PAUSE
        while not world.is_over:
            self._number = number = next(SOCKET_NUMBERS)
            world.history.note("dial", s=number, u=self.person.id)
            was_dead = world.server_is_dead
            try:
                socket = await ChatSocket.open(world.url, self.person.access_token, self._hear, acks=True)
            except Lost:
                dead = was_dead and world.server_is_dead
                world.history.note("refused-dial", s=number, u=self.person.id, dead=dead)
                await asyncio.sleep(pause * (0.5 + world.random.random()))
                pause = min(pause * 1.5, LONGEST_RECONNECT_PAUSE)
                continue
            pause = FIRST_RECONNECT_PAUSE
            await self._session(socket)
            self.socket, self.is_synced = None, False
            world.history.note("lost", s=number, u=self.person.id, dead=world.server_is_dead)
            await asyncio.sleep(FIRST_RECONNECT_PAUSE)

    async def write(self) -> None:
        """Send now and then, also to rooms that are about to be left."""
        choose = self._world.random
        while not self._world.is_settling:
            await asyncio.sleep(choose.expovariate(1 / WRITE_PAUSE))
            socket, room_id = self.socket, choose.choice(self.room_ids)
            if socket is not None and self.is_in[room_id]:
                await self._send(socket, room_id)

    async def complete(self) -> None:
        """Note what this device holds to be its rooms by the events alone, then ask for all that is missing."""
        while self.socket is None or not self.is_synced:
            await asyncio.sleep(LOOK_PAUSE)
        # Events come before the answer.
        await self.socket.call("presence:get", {"userIds": []}, ANSWER_DEADLINE)
        for room_id, is_in in self.is_in.items():
            self._world.history.note("guest-held", u=self.person.id, r=room_id, inside=is_in)
        await self._sync(self.socket)

    async def _session(self, socket: ChatSocket) -> None:
        world, clock = self._world, asyncio.get_running_loop().time
        world.history.note("open", s=self._number, u=self.person.id)
        self.socket = socket
        deadline = clock() + world.random.expovariate(1 / SESSION_SECONDS) + SHORTEST_SESSION
        sync = asyncio.create_task(self._sync(socket))
        try:
            while not socket.ended.is_set() and not world.is_over and (world.is_settling or clock() < deadline):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(socket.ended.wait(), LOOK_PAUSE)
        finally:
            sync.cancel()
        socket.cut()
        await socket.ended.wait()

    async def _sync(self, socket: ChatSocket) -> None:
        """First which rooms are mine, then what is missing in them."""
        while not self._world.is_over:
            try:
                answer = await socket.call("sync", {"rooms": {}}, ANSWER_DEADLINE)
                if answer["ok"]:
                    mine = {room["roomId"] for room in answer["rooms"]}
                    for room_id in self.room_ids:
                        self._move(room_id, room_id in mine)
                    have = {room_id: self._have[room_id] for room_id in self.room_ids if self.is_in[room_id]}
                    answer = await socket.call("sync", {"rooms": have}, ANSWER_DEADLINE)
            except Lost:
                if socket.ended.is_set():
                    return
                continue
            if answer["ok"]:
                rooms = [room for room in answer["rooms"] if room["roomId"] in have]
                items = [_item(message) for room in rooms for message in room["messages"]]
                self._world.history.note("synced", s=self._number, items=items)
                for room_id, seq, _message_id in items:
                    self._have[room_id] = max(self._have[room_id], seq)
                if not any(room["hasMore"] for room in rooms):
                    self.is_synced = True
                    return
            else:
                await asyncio.sleep(RETRY_PAUSE)

    def _move(self, room_id: str, is_in: bool) -> None:
        if is_in and not self.is_in[room_id]:
            self._have[room_id] = 0
        self.is_in[room_id] = is_in

    def _hear(self, event: str, data: Any) -> None:
        history, number = self._world.history, self._number
        if event == "message:new":
            room_id, seq, message_id = _item(data)
            history.note("new", s=number, r=room_id, q=seq, m=message_id)
        elif event == "messages:offline":
            history.note("queued", s=number, items=[_item(message) for message in data])
        elif event == "message:changed":
            message = data["message"]
            history.note(
                "changed",
                s=number,
                r=data["roomId"],
                q=message["seq"],
                v=data["rev"],
                p=data["prevRev"],
                d=digest(message),
            )
        elif event == "room:new" and data["id"] in self.is_in:
            history.note("inside", s=number, r=data["id"])
            self._move(data["id"], True)
        elif event == "room:removed" and data["roomId"] in self.is_in:
            history.note("outside", s=number, r=data["roomId"])
            self._move(data["roomId"], False)

    async def _send(self, socket: ChatSocket, room_id: str) -> None:
        history, number, intent = self._world.history, next(ATTEMPTS), next(INTENTS)
        body = f"{intent} as a guest"
        history.note("send", n=number, i=intent, u=self.person.id, r=room_id, b=body, c=None, s=self._number)
        try:
            ack = await socket.call("message:send", {"roomId": room_id, "content": body}, ANSWER_DEADLINE)
        except Lost:
            history.note("unknown", n=number)
            return
        if ack["ok"]:
            history.note("ack", n=number, m=ack["message"]["messageId"], q=ack["message"]["seq"])
        else:
            history.note("refused", n=number, code=ack["error"]["code"])


class Host:
    """Lets guests into one open room and out of it, one at a time, each time until the outcome is known.

    It goes to the server itself, not by the way on which the people's connections suffer: what it has given up must
    not arrive later.
    """

    def __init__(
        self,
        world: World,
        http: AsyncHTTPClient,
        url: str,
        owner: Person,
        room_id: str,
        guests: list[Guest],
        pause: float,
    ) -> None:
        self._world = world
        self._http = http
        self._url = url
        self._owner = owner
        self._room_id = room_id
        self._guests = guests
        self._pause = pause
        self._inside: set[str] = set()

    async def move_guests(self) -> None:
        choose = self._world.random
        while not self._world.is_settling:
            await asyncio.sleep(choose.expovariate(1 / self._pause))
            await self._move(choose.choice(self._guests).person, choose.random() < OWN_SHARE)

    async def _move(self, guest: Person, alone: bool) -> None:
        """Change where one guest is; `alone` by their own request."""
        is_in, number = guest.id not in self._inside, next(MOVES)
        self._world.history.note("move", n=number, r=self._room_id, u=guest.id, inside=is_in)
        who = guest if alone else self._owner
        members = f"{MESSAGES}/chat-rooms/{self._room_id}/members"
        if is_in and alone:
            request = "POST", f"{MESSAGES}/chat-rooms/{self._room_id}/join", {}
        elif is_in:
            request = "POST", members, {"userIds": [guest.id]}
        else:
            request = "DELETE", f"{members}/{'me' if alone else guest.id}", None
        while not self._world.is_over:
            status = await self._call(who, *request)
            # An attempt without an answer may have done it: they are not there any more.
            if status in (200, 204) or (status == 404 and not is_in):
                break
            await asyncio.sleep(RETRY_PAUSE)
        (self._inside.add if is_in else self._inside.discard)(guest.id)
        self._world.history.note("moved", n=number)
        if not is_in:
            status = await self._call(guest, "GET", f"{MESSAGES}/chats/{self._room_id}/messages", None)
            self._world.history.note("peeked", r=self._room_id, u=guest.id, status=status)

    async def _call(self, person: Person, method: str, path: str, body: dict[str, Any] | None) -> int:
        """The status of the answer, 599 if there is none."""
        headers = {"Authorization": f"Bearer {person.access_token}", "Content-Type": "application/json"}
        request = HTTPRequest(
            f"{self._url}{path}",
            method=method,
            body=None if body is None else json.dumps(body),
            headers=headers,
            request_timeout=ANSWER_DEADLINE,
        )
        try:
            return (await self._http.fetch(request, raise_error=False)).code
        except (HTTPClientError, OSError):
            return 599


def _item(message: dict[str, Any]) -> tuple[str, int, str]:
    return message["roomId"], message["seq"], message["messageId"]
