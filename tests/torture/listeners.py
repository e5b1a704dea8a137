"""A person who only listens, as the guide's clients do: live messages and offline batches, and never a `sync`."""

import asyncio
from typing import Any

from tests.torture.chat_socket import ChatSocket, Lost
from tests.torture.devices import FIRST_RECONNECT_PAUSE, LONGEST_RECONNECT_PAUSE, SOCKET_NUMBERS, World
from tests.torture.polling_chat import PollingChat

SESSION_SECONDS = 2.5
SHORTEST_SESSION = 0.3
ABSENCE_SECONDS = 0.6
# Of the endings: without a word after having taken nothing in for a while, and without a word at once.
FREEZING_SHARE = 0.4
CUTTING_SHARE = 0.3
LONGEST_FREEZE = 1.5
LOOK_PAUSE = 0.1


class Listener:
    """One device of one person. `acks`: it acknowledges offline batches. `polls`: by long-polling."""

    def __init__(self, world: World, user_id: str, token: str, *, acks: bool, polls: bool) -> None:
        self._world = world
        self._user_id = user_id
        self._token = token
        self._acks = acks
        self._polls = polls
        self._number = 0
        self.is_connected = False

    async def live(self) -> None:
        """Come and go until the round settles; from then on stay."""
        world, pause = self._world, FIRST_RECONNECT_PAUSE
        transport: type[ChatSocket] | type[PollingChat] = PollingChat if self._polls else ChatSocket
        while not world.is_over:
            self._number = number = next(SOCKET_NUMBERS)
            world.history.note("dial", s=number, u=self._user_id)
            was_dead = world.server_is_dead
            try:
                chat = await transport.open(world.url, self._token, self._hear_on(number), acks=self._acks)
            except Lost:
                dead = was_dead and world.server_is_dead
                world.history.note("refused-dial", s=number, u=self._user_id, dead=dead)
                await asyncio.sleep(pause * (0.5 + world.random.random()))
                pause = min(pause * 1.5, LONGEST_RECONNECT_PAUSE)
                continue
            pause = FIRST_RECONNECT_PAUSE
            world.history.note("open", s=number, u=self._user_id)
            self.is_connected = True
            left = await self._session(chat)
            self.is_connected = False
            world.history.note("lost", s=number, u=self._user_id, dead=left or world.server_is_dead)
            if not world.is_settling:
                await asyncio.sleep(world.random.expovariate(1 / ABSENCE_SECONDS))

    async def _session(self, chat: ChatSocket | PollingChat) -> bool:
        """Listen on one connection; True where this side ended it and the server has counted it out."""
        world, loop = self._world, asyncio.get_running_loop()
        deadline = loop.time() + SHORTEST_SESSION + world.random.expovariate(1 / SESSION_SECONDS)
        while not chat.ended.is_set() and not world.is_over:
            if not world.is_settling and loop.time() > deadline:
                break
            await asyncio.sleep(LOOK_PAUSE)
        if chat.ended.is_set():
            return False
        choice = world.random.random()
        if choice < FREEZING_SHARE:
            chat.freeze()
            await asyncio.sleep(world.random.uniform(0, LONGEST_FREEZE))
        elif choice > FREEZING_SHARE + CUTTING_SHARE:
            await chat.leave()
            return True
        chat.cut()
        await chat.ended.wait()
        return False

    def _hear_on(self, number: int) -> Any:
        def hear(event: str, data: Any) -> None:
            if event == "message:new":
                self._world.history.note("new", s=number, r=data["roomId"], q=data["seq"], m=data["messageId"])
            elif event == "messages:offline":
                items = [(message["roomId"], message["seq"], message["messageId"]) for message in data]
                self._world.history.note("queued", s=number, items=items)

        return hear
