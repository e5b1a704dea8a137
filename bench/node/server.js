// The baseline's design on Node's Socket.IO 4: a find, an insert, an update and a presence check for each message.
// Takes the addresses of the stores from the same environment variables as the product; --no-store only relays.
"use strict";

const { randomUUID } = require("node:crypto");
const { createServer } = require("node:http");
const jwt = require("jsonwebtoken");
const { Server } = require("socket.io");

const noStore = process.argv.includes("--no-store");
const secret = process.env.MADANG_AUTH__SECRET;

function makeMessage(sender, data) {
  return {
    _id: randomUUID().replaceAll("-", ""),
    roomId: data.roomId,
    senderId: sender._id,
    content: data.content,
    createdAt: new Date(),
  };
}

function view(message, sender) {
  return {
    messageId: message._id,
    roomId: message.roomId,
    seq: 0,
    clientMessageId: null,
    senderId: message.senderId,
    senderName: `${sender.firstName} ${sender.lastName}`,
    content: message.content,
    type: "TEXT",
    messageType: "TEXT",
    attachmentUrl: null,
    timestamp: message.createdAt.toISOString(),
    isRead: false,
  };
}

// Without stores: everybody enters the room that their token names.
function relay(chat) {
  chat.on("connection", (socket) => {
    socket.join(socket.data.claims.room);
    const user = { _id: socket.data.claims.sub, firstName: "Ada", lastName: "Example" };
    socket.on("message:send", (data, ack) => {
      const shown = view(makeMessage(user, data), user);
      chat.to(data.roomId).emit("message:new", shown);
      ack({ ok: true, message: shown });
    });
  });
}

// With stores. Every user has a Socket.IO room of their own.
async function converse(chat) {
  const { MongoClient } = require("mongodb");
  const { Redis } = require("ioredis");
  const client = new MongoClient(process.env.MADANG_MONGODB__URI, { retryWrites: false });
  const database = client.db(process.env.MADANG_MONGODB__DATABASE);
  const [users, rooms, messages] = ["users", "rooms", "messages"].map((name) => database.collection(name));
  const address = new URL(process.env.MADANG_REDIS__URL);
  const presence = new Redis({
    path: decodeURIComponent(address.pathname),
    password: address.searchParams.get("password"),
  });
  // What the history of such a server needs.
  await messages.createIndex({ roomId: 1, createdAt: 1 });
  chat.use(async (socket, next) => {
    socket.data.user = await users.findOne({ _id: socket.data.claims.sub });
    next();
  });
  chat.on("connection", (socket) => {
    const user = socket.data.user;
    socket.join(`user:${user._id}`);
    presence.set(`presence:${user._id}`, socket.id);
    socket.on("disconnect", () => presence.del(`presence:${user._id}`));
    socket.on("message:send", async (data, ack) => {
      const room = await rooms.findOne({ _id: data.roomId, userIds: user._id });
      if (!room) return ack({ ok: false, error: { code: "NOT_FOUND" } });
      const message = makeMessage(user, data);
      await messages.insertOne(message);
      await rooms.updateOne({ _id: room._id }, { $set: { lastMessage: message } });
      const shown = view(message, user);
      for (const userId of room.userIds) {
        if (userId === user._id || (await presence.exists(`presence:${userId}`))) {
          chat.to(`user:${userId}`).emit("message:new", shown);
        } else {
          await presence.rpush(`offline:${userId}`, message._id);
        }
      }
      return ack({ ok: true, message: shown });
    });
  });
}

async function main() {
  const http = createServer();
  const chat = new Server(http).of("/chat");
  chat.use((socket, next) => {
    socket.data.claims = jwt.verify(socket.handshake.auth.token, secret, { algorithms: ["HS256"] });
    next();
  });
  await (noStore ? relay(chat) : converse(chat));
  http.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${http.address().port}`));
}

main();
