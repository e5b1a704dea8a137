"""The baseline: stock python-socketio on Tornado; each message is a find, an insert, an update and a presence check.

Takes the addresses of the stores from the same environment variables as the product. `--no-store` leaves the stores
out: then it only relays.
"""

import argparse
import asyncio
import os
import sys
import uuid
from datetime import UTC, datetime
from typing import Any

import jwt
import redis.asyncio
import socketio
from motor.motor_asyncio import AsyncIOMotorClient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

NAMESPACE = "/chat"


def read_token(auth: Any) -> dict[str, Any]:
    return jwt.decode(auth["token"], os.environ["MADANG_AUTH__SECRET"], algorithms=["HS256"])


def make_message(sender: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    return {
        "_id": uuid.uuid4().hex,
        "roomId": data["roomId"],
        "senderId": sender["_id"],
        "content": data["content"],
        "createdAt": datetime.now(UTC),
    }


def view(message: dict[str, Any], sender: dict[str, Any]) -> dict[str, Any]:
    """The contract's message shape; `seq` is left at 0, because an ordinary design has none."""
    return {
        "messageId": message["_id"],
        "roomId": message["roomId"],
        "seq": 0,
        "clientMessageId": None,
        "senderId": message["senderId"],
        "senderName": f"{sender['firstName']} {sender['lastName']}",
        "content": message["content"],
        "type": "TEXT",
        "messageType": "TEXT",
        "attachmentUrl": None,
        "timestamp": message["createdAt"].isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "isRead": False,
    }


class Chat:
    """With stores. Every user has a Socket.IO room of their own."""

    def __init__(self, server: socketio.AsyncServer, database: Any, presence: Any) -> None:
        self._server = server
        self._database = database
        self._presence = presence

    async def prepare(self) -> None:
        # What the history of such a server needs.
        await self._database.messages.create_index([("roomId", 1), ("createdAt", 1)])

    async def connect(self, sid: str, _environ: Any, auth: Any) -> None:
        user = await self._database.users.find_one({"_id": read_token(auth)["sub"]})
        await self._server.save_session(sid, user, namespace=NAMESPACE)
        await self._server.enter_room(sid, f"user:{user['_id']}", namespace=NAMESPACE)
        await self._presence.set(f"presence:{user['_id']}", sid)

    async def disconnect(self, sid: str, _reason: str) -> None:
        user = await self._server.get_session(sid, namespace=NAMESPACE)
        await self._presence.delete(f"presence:{user['_id']}")

    async def send(self, sid: str, data: Any) -> dict[str, Any]:
        sender = await self._server.get_session(sid, namespace=NAMESPACE)
        room = await self._database.rooms.find_one({"_id": data["roomId"], "userIds": sender["_id"]})
        if room is None:
            return {"ok": False, "error": {"code": "NOT_FOUND"}}
        message = make_message(sender, data)
        await self._database.messages.insert_one(message)
        await self._database.rooms.update_one({"_id": room["_id"]}, {"$set": {"lastMessage": message}})
        shown = view(message, sender)
        for user_id in room["userIds"]:
            if user_id == sender["_id"] or await self._presence.exists(f"presence:{user_id}"):
                await self._server.emit("message:new", shown, room=f"user:{user_id}", namespace=NAMESPACE)
            else:
                await self._presence.rpush(f"offline:{user_id}", message["_id"])
        return {"ok": True, "message": shown}


class Relay:
    """Without stores: everybody enters the room that their token names."""

    def __init__(self, server: socketio.AsyncServer) -> None:
        self._server = server

    async def prepare(self) -> None:
        """Nothing."""

    async def connect(self, sid: str, _environ: Any, auth: Any) -> None:
        claims = read_token(auth)
        user = {"_id": claims["sub"], "firstName": "Ada", "lastName": "Example"}
        await self._server.save_session(sid, user, namespace=NAMESPACE)
        await self._server.enter_room(sid, claims["room"], namespace=NAMESPACE)

    async def disconnect(self, sid: str, _reason: str) -> None:
        """Nothing."""

    async def send(self, sid: str, data: Any) -> dict[str, Any]:
        sender = await self._server.get_session(sid, namespace=NAMESPACE)
        shown = view(make_message(sender, data), sender)
        await self._server.emit("message:new", shown, room=data["roomId"], namespace=NAMESPACE)
        return {"ok": True, "message": shown}


def make_chat(server: socketio.AsyncServer, no_store: bool) -> Chat | Relay:
    if no_store:
        return Relay(server)
    client: Any = AsyncIOMotorClient(os.environ["MADANG_MONGODB__URI"], retryWrites=False)
    # Its default of 100 fails as soon as more than that many messages are under way.
    presence = redis.asyncio.from_url(os.environ["MADANG_REDIS__URL"], max_connections=5_000)
    return Chat(server, client[os.environ["MADANG_MONGODB__DATABASE"]], presence)


async def serve(no_store: bool) -> None:
    server = socketio.AsyncServer(async_mode="tornado")
    chat = make_chat(server, no_store)
    await chat.prepare()
    server.on("connect", chat.connect, namespace=NAMESPACE)
    server.on("disconnect", chat.disconnect, namespace=NAMESPACE)
    server.on("message:send", chat.send, namespace=NAMESPACE)
    sockets = bind_sockets(0, "127.0.0.1")
    HTTPServer(Application([(r"/socket.io/", socketio.get_tornado_handler(server))])).add_sockets(sockets)
    print(f"listening on http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-store", action="store_true")
    asyncio.run(serve(parser.parse_args().no_store))


if __name__ == "__main__":
    sys.exit(main())
