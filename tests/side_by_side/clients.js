/** The page's own Socket.IO client and npm's, behind one interface, with a log of what each of them saw. */

import { Socket } from "/js/socket.js";
import { PollingTransport, WebSocketTransport } from "/js/transports.js";

const TRANSPORTS = { websocket: WebSocketTransport, polling: PollingTransport };
const BOTH = ["websocket", "polling"];
const NAMESPACE = "/chat";
// Of a call, where the situation is not about that: the machine may be busy.
const PATIENCE = 40_000;

class Client {
  log = [];
  /** Called when it tries again. */
  onRetry = null;
  #waiters = [];

  note(line) {
    this.log.push(line);
    this.#waiters = this.#waiters.filter((isOver) => !isOver());
  }

  /** Wait until lines of this kind (one word, or all of it) were noted so many times in all. */
  until(kind, times = 1) {
    return new Promise((resolve) => {
      const isOver = () => {
        const count = this.log.filter((line) => line === kind || line.startsWith(`${kind} `)).length;
        if (count >= times) resolve();
        return count >= times;
      };
      if (!isOver()) this.#waiters.push(isOver);
    });
  }

  noteRefusal({ data }) {
    this.note(data?.code ? `connect_error ${data.code}` : "connect_error");
  }

  /** How often it tried while nothing could be reached is chance. */
  forgetAttempts() {
    this.log = this.log.filter((line) => line !== "connect_error");
  }
}

/** `hear(name, payload)` says what to note of an event of the server, if anything. */
export function ours({ base, auth, hear, namespace = NAMESPACE, transports = BOTH, firstDelay, maxDelay, timeout }) {
  const client = new Client();
  const socket = new Socket({
    url: new URL("/socket.io/", base),
    namespace,
    auth: () => {
      client.onRetry?.();
      return auth();
    },
    transports: transports.map((name) => TRANSPORTS[name]),
    firstDelay,
    maxDelay,
    timeout,
  });
  socket.addEventListener("connect", () => client.note("connect"));
  socket.addEventListener("disconnect", ({ detail }) => client.note(`disconnect (${detail})`));
  socket.addEventListener("connect_error", ({ detail }) => client.noteRefusal(detail));
  socket.addEventListener("event", ({ detail: { name, values, acknowledge } }) => {
    const line = hear?.(name, values[0]);
    if (line) client.note(line);
    acknowledge();
  });
  return Object.assign(client, {
    connect: () => socket.connect(),
    disconnect: () => socket.disconnect(),
    isActive: () => socket.isActive,
    call: (name, payload, limit = PATIENCE) => socket.call(name, payload, limit).catch(({ code }) => code),
  });
}

export function official({ base, auth, hear, namespace = NAMESPACE, transports = BOTH, firstDelay, maxDelay, timeout }) {
  const client = new Client();
  const socket = window.io(`${base}${namespace}`, {
    auth: (give) => give(auth()),
    transports,
    tryAllTransports: true,
    upgrade: false,
    reconnectionDelay: firstDelay,
    reconnectionDelayMax: maxDelay,
    timeout,
    forceNew: true,
    autoConnect: false,
  });
  socket.io.on("reconnect_attempt", () => client.onRetry?.());
  socket.on("connect", () => client.note("connect"));
  socket.on("disconnect", (reason) => client.note(`disconnect (${reason})`));
  socket.on("connect_error", (error) => client.noteRefusal(error));
  socket.onAny((name, payload, acknowledge) => {
    const line = hear?.(name, payload);
    if (line) client.note(line);
    acknowledge?.();
  });
  return Object.assign(client, {
    connect: () => socket.connect(),
    disconnect: () => socket.disconnect(),
    isActive: () => socket.active,
    call: (name, payload, limit = PATIENCE) =>
      socket
        .timeout(limit)
        .emitWithAck(name, payload)
        .catch(({ message }) => (message.includes("timed out") ? "TIMEOUT" : "OFFLINE")),
  });
}
