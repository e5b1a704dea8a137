"""A person who changes messages: edits and deletes their own, reacts to any, and pins."""

import asyncio
import itertools
from typing import Any

from tests.torture.changed_state import MARK, digest
from tests.torture.chat_socket import Lost
from tests.torture.devices import Device, World

ANSWER_DEADLINE = 10.0
# Of the changes, in parts of a hundred; the rest are reactions.
EDITS, DELETIONS, PINS = 30, 8, 12
EMOJI = ("\N{THUMBS UP SIGN}", "\N{PARTY POPPER}", "\N{EYES}")
CHANGES = itertools.count(1)


class Changer:
    """Changes messages that its device knows, until the round settles."""

    def __init__(self, world: World, device: Device, *, pause: float) -> None:
        self._world = world
        self._device = device
        self._pause = pause

    async def change(self) -> None:
        choose = self._world.random
        while not self._world.is_settling:
            await asyncio.sleep(choose.expovariate(1 / self._pause))
            known, socket = self._device.known, self._device.socket
            if socket is None or not known:
                continue
            message = choose.choice(known)
            event, payload = self._choose(message)
            number = next(CHANGES)
            self._world.history.note("change", n=number, u=self._device.user_id, m=message["messageId"], e=event)
            try:
                ack = await socket.call(event, payload, ANSWER_DEADLINE)
            except Lost:
                continue
            if ack["ok"]:
                now = ack["message"]
                self._world.history.note(
                    "change-ack", n=number, r=now["roomId"], q=now["seq"], v=now.get("rev", 0), d=digest(now)
                )

    def _choose(self, message: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        choose, named = self._world.random, {"messageId": message["messageId"]}
        is_mine = message["senderId"] == self._device.user_id
        turn = choose.randrange(100)
        if turn < EDITS and is_mine:
            return "message:edit", {**named, "content": f"{message['content']}{MARK}{choose.randrange(1000)}"}
        if turn < EDITS + DELETIONS and is_mine:
            return "message:delete", named
        if turn < EDITS + DELETIONS + PINS:
            return "message:pin", {**named, "remove": choose.random() < 0.5}
        return "message:react", {**named, "emoji": choose.choice(EMOJI), "remove": choose.random() < 0.3}
