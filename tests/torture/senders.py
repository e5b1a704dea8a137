"""A person who writes: over socket or REST, with or without an id of their own, again after unknown outcomes."""

import asyncio
import itertools
import json
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from tests.support.rest import MESSAGES
from tests.torture.chat_socket import Lost
from tests.torture.devices import Device, World

ANSWER_DEADLINE = 10.0
FIRST_RETRY_PAUSE = 0.2
LONGEST_RETRY_PAUSE = 3.0
# Nobody goes on writing while so many of their messages have no answer.
MOST_OPEN = 6
# Of the turns without a connection, those on which people give up before they begin.
PATIENCE_SHARE = 0.7
OWN_ID_SHARE = 0.7
REST_SHARE = 0.15
BURST_SHARE = 0.15
LONGEST_BURST = 5
WORDS = ("hello", "안녕하세요", "👩‍👩‍👧", "שלום", "a\u200bb", "two\nlines", '"quoted" \\ back', "  spaces  ", "e\u0301")
INTENTS = itertools.count(1)
ATTEMPTS = itertools.count(1)


class Sender:
    """Sends until the round settles; then `finish` ends with the last retry."""

    def __init__(
        self,
        world: World,
        device: Device,
        http: AsyncHTTPClient,
        *,
        user_id: str,
        token: str,
        room_ids: list[str],
        pause: float,
    ) -> None:
        self._world = world
        self._device = device
        self._user_id = user_id
        self._token = token
        self._room_ids = room_ids
        self._pause = pause
        self._http = http
        self._running: set[asyncio.Task[None]] = set()

    async def write(self) -> None:
        """Send at random times until the round settles, then wait for the last answers."""
        choose = self._world.random
        while not self._world.is_settling:
            await asyncio.sleep(choose.expovariate(1 / self._pause))
            if len(self._running) >= MOST_OPEN or (self._device.socket is None and choose.random() < PATIENCE_SHARE):
                continue
            count = choose.randint(2, LONGEST_BURST) if choose.random() < BURST_SHARE else 1
            room_id = choose.choice(self._room_ids)
            over_rest = count == 1 and choose.random() < REST_SHARE
            for _ in range(count):
                self.send(room_id, with_id=choose.random() < OWN_ID_SHARE, over_rest=over_rest)
        await self.finish()

    def send(self, room_id: str, *, with_id: bool, over_rest: bool = False) -> "asyncio.Task[None]":
        """Begin one message now; the task ends when its outcome is known or given up."""
        intent = next(INTENTS)
        body = f"{intent} {self._world.random.choice(WORDS)}"
        own_id = f"own-{intent}" if with_id else None
        first = self._begin(intent, room_id, own_id, body, over_rest=over_rest)
        task = asyncio.create_task(self._see_through(first, intent, room_id, own_id, body))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def finish(self) -> None:
        while self._running:
            await asyncio.wait(self._running)

    def abandon(self) -> None:
        for task in self._running:
            task.cancel()

    async def _see_through(
        self, first: "asyncio.Future[bool]", intent: int, room_id: str, own_id: str | None, body: str
    ) -> None:
        """Wait for the first outcome; while it is unknown or refused, try again under the same id, if there is one."""
        is_done, pause = await first, FIRST_RETRY_PAUSE
        while not is_done and own_id is not None and not self._world.is_over:
            await asyncio.sleep(pause * (0.5 + self._world.random.random()))
            pause = min(pause * 2, LONGEST_RETRY_PAUSE)
            over_rest = self._device.socket is None or self._world.random.random() < REST_SHARE
            is_done = await self._begin(intent, room_id, own_id, body, over_rest=over_rest)

    def _begin(
        self, intent: int, room_id: str, own_id: str | None, body: str, *, over_rest: bool
    ) -> "asyncio.Future[bool]":
        """Send once. The bytes are on their way when this returns, so calls keep their order on a socket."""
        socket = None if over_rest else self._device.socket
        number = next(ATTEMPTS)
        place = None if socket is None else self._device.number
        self._world.history.note("send", n=number, i=intent, u=self._user_id, r=room_id, b=body, c=own_id, s=place)
        payload: dict[str, Any] = {"content": body} | ({"clientMessageId": own_id} if own_id else {})
        if socket is None:
            return asyncio.create_task(self._post(number, room_id, payload))
        answer = socket.begin("message:send", {"roomId": room_id, **payload})
        return asyncio.create_task(self._await_ack(number, answer))

    async def _await_ack(self, number: int, answer: "asyncio.Future[Any]") -> bool:
        try:
            ack = await asyncio.wait_for(answer, ANSWER_DEADLINE)
        except (Lost, TimeoutError):
            self._world.history.note("unknown", n=number)
            return False
        if not ack["ok"]:
            self._world.history.note("refused", n=number, code=ack["error"]["code"])
            return False
        self._world.history.note("ack", n=number, m=ack["message"]["messageId"], q=ack["message"]["seq"])
        return True

    async def _post(self, number: int, room_id: str, payload: dict[str, Any]) -> bool:
        request = HTTPRequest(
            f"{self._world.url}{MESSAGES}/chats/{room_id}/messages",
            method="POST",
            body=json.dumps(payload),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            request_timeout=ANSWER_DEADLINE,
        )
        try:
            response = await self._http.fetch(request, raise_error=False)
            body = json.loads(response.body or b"null")
        except (HTTPClientError, OSError, ValueError):
            body, status = None, 599
        else:
            status = response.code
        if status in (200, 201):
            self._world.history.note("ack", n=number, m=body["messageId"], q=body["seq"])
            return True
        if body is None or status == 599:
            self._world.history.note("unknown", n=number)
        else:
            self._world.history.note("refused", n=number, code=body["code"])
        return False
