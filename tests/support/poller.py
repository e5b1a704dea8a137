"""A client that polls, and can misbehave: any packets in any body."""

import asyncio
import contextlib
import json
from urllib.parse import urlsplit

from tests.support.people import Person, Town

POLLING_PATH = "/socket.io/?EIO=4&transport=polling"
PLAIN = {"Content-Type": "text/plain"}
SEPARATOR = "\x1e"


class Poller:
    """An Engine.IO session by long-polling, request by request."""

    def __init__(self, town: Town) -> None:
        self._call = town.rest.call
        self._address = urlsplit(town.url)
        self.sid = ""

    async def begin(self, person: Person) -> None:
        opening = await self._call("GET", POLLING_PATH)
        self.sid = json.loads(opening.raw[1:])["sid"]
        await self.say(f"40/chat,{json.dumps({'token': person.access_token})}")
        assert any(packet.startswith("40/chat,") for packet in await self.poll())

    async def say(self, *packets: str) -> None:
        assert await self.try_saying(*packets) == 200

    async def try_saying(self, *packets: str) -> int:
        """Send these in one body; the status of the answer."""
        body = SEPARATOR.join(packets).encode()
        return (await self._call("POST", f"{POLLING_PATH}&sid={self.sid}", body, headers=PLAIN)).status

    async def poll(self) -> list[str]:
        answer = await self._call("GET", f"{POLLING_PATH}&sid={self.sid}")
        assert answer.status == 200, answer
        return answer.raw.decode().split(SEPARATOR)

    async def poll_and_hang_up(self) -> None:
        """Ask, and close the connection before there is an answer; ask again if there was something to answer."""
        is_answered = True
        while is_answered:
            reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
            host = self._address.netloc
            writer.write(f"GET {POLLING_PATH}&sid={self.sid} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            await writer.drain()
            # By then the server has read it.
            await self._call("GET", "/healthz")
            await self._call("GET", "/healthz")
            answer = b""
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    answer = await reader.read(65536)
            is_answered = answer != b""
            if answer.endswith(b"\r\n\r\n2"):
                await self.say("3")
            writer.close()
            await writer.wait_closed()
