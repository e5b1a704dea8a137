"""The limit without storage: a bare Tornado WebSocket that speaks just enough Socket.IO to acknowledge and relay."""

import asyncio
import base64
import gc
import sys
from typing import Any

import msgspec
import uvloop
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler

EVENT = "42/chat,"
OPEN = '0{"sid":"bare","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":131072}'
ROOMS: dict[str, list["Relay"]] = {}
GENERATION_0 = 50_000


class Send(msgspec.Struct, rename="camel"):
    room_id: str
    content: str


decode = msgspec.json.Decoder(tuple[str, Send]).decode
encode = msgspec.json.Encoder().encode


class Relay(WebSocketHandler):
    """Everybody enters the room that their token names; tokens are not verified."""

    def get_compression_options(self) -> None:
        return None

    def open(self, *_args: str, **_kwargs: str) -> None:
        self.set_nodelay(True)
        self.room: list[Relay] = []
        self.write_message(OPEN)

    def on_message(self, message: str | bytes) -> None:
        assert isinstance(message, str)
        if message.startswith(EVENT):
            self.relay(message)
        elif message.startswith("40"):
            token = msgspec.json.decode(message.partition(",")[2])["token"]
            payload = token.split(".")[1]
            claims: dict[str, Any] = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            self.room = ROOMS.setdefault(claims["room"], [])
            self.room.append(self)
            self.write_message('40/chat,{"sid":"bare"}')

    def relay(self, message: str) -> None:
        start = message.index("[")
        _event, send = decode(message[start:])
        body = {"roomId": send.room_id, "content": send.content}
        self.write_message(f"43/chat,{message[len(EVENT) : start]}" + encode([{"ok": True, "message": body}]).decode())
        packet = EVENT + encode(["message:new", body]).decode()
        for member in self.room:
            member.write_message(packet)

    def on_close(self) -> None:
        if self in self.room:
            self.room.remove(self)


async def serve() -> None:
    sockets = bind_sockets(0, "127.0.0.1")
    HTTPServer(Application([(r"/socket.io/", Relay)])).add_sockets(sockets)
    gc.freeze()
    gc.set_threshold(GENERATION_0, 50, 100)
    print(f"listening on http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(uvloop.run(serve()))
