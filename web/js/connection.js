/** The live connection: Socket.IO on `/chat`, which comes back by itself and goes on under new tokens. */

import { ApiError, offlineError } from "./http.js";
import { Socket } from "./socket.js";

const ACK_TIMEOUT = 10_000;
const FIRST_DELAY = 1_000;
const MAX_DELAY = 15_000;
// How Socket.IO names the end that only the server can ask for.
const ENDED_BY_SERVER = "io server disconnect";
const TOKEN_CODES = new Set(["UNAUTHORIZED", "TOKEN_EXPIRED"]);
const OFFLINE_BATCH = "messages:offline";
const SERVER_EVENTS = new Set([
  "message:new",
  "message:changed",
  "message:read",
  "message:delivered",
  "typing:start",
  "typing:stop",
  "user:online",
  "user:offline",
  "room:new",
  "room:changed",
  "room:removed",
  OFFLINE_BATCH,
]);

/** Events: those of the server with their payload as `detail`, `messages:offline`, and `state` (see `state`). */
export class Connection extends EventTarget {
  #session;
  #socket = null;
  /** `connecting`, `online`, or `offline` (was online, and is trying again). */
  state = "connecting";

  constructor(session) {
    super();
    this.#session = session;
    session.addEventListener("renewed", () => this.#handInToken());
    window.addEventListener("online", () => this.#socket?.connect());
    // Timers do not run while a machine sleeps: check at once when the page becomes visible.
    document.addEventListener("visibilitychange", () => document.hidden || this.#socket?.connect());
    // The browser keeps a page that was left, for its Back button: with its connection its user would stay online.
    window.addEventListener("pagehide", () => this.#socket?.disconnect());
    window.addEventListener("pageshow", (event) => event.persisted && this.#socket?.connect());
  }

  open() {
    const auth = async () => ({ token: await this.#session.token() });
    const socket = new Socket({ namespace: "/chat", auth, firstDelay: FIRST_DELAY, maxDelay: MAX_DELAY });
    this.#socket = socket;
    const on = (name, take) => socket.addEventListener(name, ({ detail }) => socket === this.#socket && take(detail));
    on("connect", () => this.#enter("online"));
    on("disconnect", (reason) => {
      this.#enter("offline");
      if (reason === ENDED_BY_SERVER) socket.connectLater();
    });
    on("connect_error", (error) => this.#refused(socket, error));
    on("event", ({ name, values, acknowledge }) => {
      if (SERVER_EVENTS.has(name)) this.dispatchEvent(new CustomEvent(name, { detail: values[0] }));
      if (name === OFFLINE_BATCH) acknowledge();
    });
    socket.connect();
  }

  close() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.disconnect();
    this.state = "connecting";
  }

  /** Emit an event and resolve to its acknowledgement; rejects with an `ApiError`, at once while not connected. */
  async call(event, payload) {
    if (!this.#socket) throw offlineError();
    let answer;
    try {
      answer = await this.#socket.call(event, payload, ACK_TIMEOUT);
    } catch (error) {
      if (error.code === "OFFLINE") throw offlineError();
      throw new ApiError({ code: "TIMEOUT", detail: "The server did not answer in time." });
    }
    if (!answer.ok) throw new ApiError(answer.error);
    return answer;
  }

  async #handInToken() {
    if (this.state !== "online") return;
    const token = await this.#session.token();
    // A refusal needs no answer here: the server ends the connection when the old token does, and we come back.
    await this.call("auth:refresh", { token }).catch(() => {});
  }

  async #refused(socket, error) {
    this.#enter("offline");
    if (TOKEN_CODES.has(error.data?.code)) await this.#session.renew().catch(() => {});
    // It tries again by itself after faults of the network, but not where the server said no.
    if (socket === this.#socket && !socket.isActive) socket.connectLater();
  }

  #enter(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}
