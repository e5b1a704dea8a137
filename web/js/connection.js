/** The live connection: Socket.IO on `/chat`, which comes back by itself and goes on under new tokens. */

import { ApiError, offlineError } from "./http.js";

const ACK_TIMEOUT = 10_000;
const FIRST_DELAY = 1_000;
const MAX_DELAY = 15_000;
// How Socket.IO names an end that was asked for here.
const LEFT = "io client disconnect";
const SERVER_EVENTS = [
  "message:new",
  "message:read",
  "message:delivered",
  "typing:start",
  "typing:stop",
  "user:online",
  "user:offline",
  "room:new",
];

/** Events: those of the server with their payload as `detail`, `messages:offline`, and `state` (see `state`). */
export class Connection extends EventTarget {
  #session;
  #socket = null;
  #timer = 0;
  #refusals = 0;
  /** `connecting`, `online`, or `offline` (was online, and is trying again). */
  state = "connecting";

  constructor(session) {
    super();
    this.#session = session;
    session.addEventListener("renewed", () => this.#handInToken());
    window.addEventListener("online", () => this.#socket?.connect());
    // The browser keeps a page that was left, for its Back button: with its connection its user would stay online.
    window.addEventListener("pagehide", () => this.#leave());
    window.addEventListener("pageshow", (event) => event.persisted && this.#socket?.connect());
  }

  open() {
    const socket = window.io("/chat", {
      auth: (give) => this.#giveToken(give),
      transports: ["websocket", "polling"],
      tryAllTransports: true,
      reconnectionDelay: FIRST_DELAY,
      reconnectionDelayMax: MAX_DELAY,
      forceNew: true,
    });
    this.#socket = socket;
    socket.on("connect", () => {
      this.#refusals = 0;
      this.#enter("online");
    });
    socket.on("disconnect", (reason) => {
      this.#enter("offline");
      if (reason !== LEFT) this.#comeBack();
    });
    socket.on("connect_error", (error) => this.#refused(error));
    for (const name of SERVER_EVENTS) {
      socket.on(name, (payload) => this.dispatchEvent(new CustomEvent(name, { detail: payload })));
    }
    socket.on("messages:offline", (messages, acknowledge) => {
      this.dispatchEvent(new CustomEvent("messages:offline", { detail: messages }));
      acknowledge?.();
    });
  }

  close() {
    clearTimeout(this.#timer);
    this.#socket?.removeAllListeners();
    this.#socket?.disconnect();
    this.#socket = null;
    this.state = "connecting";
  }

  /** Emit an event and resolve to its acknowledgement; rejects with an `ApiError`, at once while not connected. */
  async call(event, payload) {
    if (!this.#socket?.connected) throw offlineError();
    let answer;
    try {
      answer = await this.#socket.timeout(ACK_TIMEOUT).emitWithAck(event, payload);
    } catch {
      throw new ApiError({ code: "TIMEOUT", detail: "The server did not answer in time." });
    }
    if (!answer.ok) throw new ApiError(answer.error);
    return answer;
  }

  #leave() {
    clearTimeout(this.#timer);
    this.#socket?.disconnect();
  }

  async #giveToken(give) {
    const socket = this.#socket;
    // Where renewing fails the server is asked without a token, says no, and `#refused` takes its course.
    const token = await this.#session.token().catch(() => "");
    if (socket === this.#socket) give({ token });
  }

  async #handInToken() {
    if (this.state !== "online") return;
    const token = await this.#session.token();
    // A refusal needs no answer here: the server ends the connection when the old token does, and we come back.
    await this.call("auth:refresh", { token }).catch(() => {});
  }

  async #refused(error) {
    this.#enter("offline");
    if (["UNAUTHORIZED", "TOKEN_EXPIRED"].includes(error.data?.code)) await this.#session.renew().catch(() => {});
    this.#comeBack();
  }

  /** Socket.IO itself tries again after network faults, but not after the server closed or refused. */
  #comeBack() {
    const socket = this.#socket;
    if (!socket || socket.active) return;
    clearTimeout(this.#timer);
    const delay = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** this.#refusals++) * (0.5 + Math.random());
    this.#timer = setTimeout(() => socket === this.#socket && socket.connect(), delay);
  }

  #enter(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}
