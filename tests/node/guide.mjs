// The guide's conversation with npm's socket.io-client: two people, one transport, every event of the guide.
// Usage: node guide.mjs URL TRANSPORT ROOM TOKEN_A TOKEN_B OFFLINE_COUNT; prints what was heard as JSON, exits with 0.
import { io } from "socket.io-client";

const [url, transport, roomId, tokenA, tokenB, offlineCount] = process.argv.slice(2);
const transports = { websocket: ["websocket"], polling: ["polling"], upgraded: ["polling", "websocket"] }[transport];
const DEADLINE = 30_000;

function fail(what) {
  console.error(what);
  process.exit(1);
}

function connect(options) {
  const socket = io(`${url}/chat`, { transports, forceNew: true, reconnection: false, ...options });
  socket.heard = [];
  socket.waiters = [];
  socket.onAny((event, data) => {
    socket.heard.push([event, data]);
    socket.waiters = socket.waiters.filter((waiter) => !waiter());
  });
  return socket;
}

function once(socket, event, where = () => true) {
  return new Promise((resolve) => {
    const timer = setTimeout(() => fail(`no ${event}; heard ${JSON.stringify(socket.heard)}`), DEADLINE);
    const look = () => {
      const found = socket.heard.find(([name, data]) => name === event && where(data));
      if (found) {
        clearTimeout(timer);
        resolve(found[1]);
      }
      return Boolean(found);
    };
    if (!look()) socket.waiters.push(look);
  });
}

function connected(socket) {
  return new Promise((resolve) => {
    socket.on("connect", resolve);
    socket.on("connect_error", (error) => fail(`refused: ${error.message} ${JSON.stringify(error.data)}`));
  });
}

function refused(options) {
  const socket = connect(options);
  return new Promise((resolve) => {
    socket.on("connect", () => fail("a connection without a token was accepted"));
    socket.on("connect_error", (error) => {
      socket.disconnect();
      resolve(error.data?.code);
    });
  });
}

const refusedWith = await refused({});
const a = connect({ auth: { token: tokenA } });
await connected(a);
// As the guide also allows: by header (in Node it goes with both transports).
const b = connect({ extraHeaders: { Authorization: `Bearer ${tokenB}` } });
await connected(b);
const offline = Number(offlineCount) ? await once(b, "messages:offline") : [];
if (transport === "upgraded") {
  for (const socket of [a, b]) {
    const engine = socket.io.engine;
    if (engine.transport.name !== "websocket") await new Promise((resolve) => engine.once("upgrade", resolve));
  }
}

a.emit("room:join", { roomId });
b.emit("room:join", { roomId });
a.emit("typing:start", { roomId });
const typing = await once(b, "typing:start");
a.emit("typing:stop", { roomId });
await once(b, "typing:stop");
a.emit("message:send", { roomId, content: "Hello!", messageType: "TEXT" });
const text = await once(b, "message:new", (message) => message.content === "Hello!");
const image = { roomId, content: "Check this image", messageType: "IMAGE", attachmentUrl: "https://example.com/a.jpg" };
const ack = await a.timeout(DEADLINE).emitWithAck("message:send", image);
const picture = await once(b, "message:new", (message) => message.type === "IMAGE");
b.emit("message:read", { messageId: picture.messageId });
const read = await once(a, "message:read", (receipt) => receipt.messageId === picture.messageId);
a.emit("message:send", { roomId: "nowhere", content: "x" });
const exception = await once(a, "exception");
a.emit("room:leave", { roomId });
const transportNames = [a, b].map((socket) => socket.io.engine.transport.name);
b.disconnect();
a.disconnect();
console.log(JSON.stringify({ refusedWith, offline, typing, text, ack, picture, read, exception, transportNames }));
process.exit(0);
