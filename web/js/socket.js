/**
 * A client of Socket.IO 5: one namespace of one server, kept connected.
 * Written from https://socket.io/docs/v4/socket-io-protocol/ (packets) and
 * https://socket.io/docs/v4/client-socket-instance/ (which end is called what, and after which one it comes back).
 */

import { Engine } from "./engine.js";
import { PollingTransport, WebSocketTransport } from "./transports.js";

const CONNECT = "0";
const DISCONNECT = "1";
const EVENT = "2";
const ACK = "3";
const CONNECT_ERROR = "4";
// `type[/namespace,][ack id]JSON`; binary packets would have the number of their attachments after the type.
const PACKET = /^(\d)(?:(\/[^,]*),)?(\d*)([^]*)$/;

/**
 * Events: `connect`; `disconnect` with the reason as `detail`; `connect_error` with an Error as `detail`, which has the
 * server's `data` where the server refused; `event` with `{name, values, acknowledge}` as `detail`.
 * It tries again by itself, with growing pauses, unless the server refused or disconnected it: then `isActive` is false.
 */
export class Socket extends EventTarget {
  isConnected = false;
  /** Connected, connecting, or about to try again. */
  isActive = false;
  #options;
  #engine = null;
  /** From the begin of connecting to the end of the connection. */
  #attempt = null;
  #timer = 0;
  #failures = 0;
  #calls = new Map();
  #lastCall = 0;

  /** `auth()` gives, or resolves to, what each attempt shows to the server. `timeout` is for each step of one. */
  constructor({
    url = new URL("/socket.io/", location.origin),
    namespace = "/",
    auth = () => ({}),
    transports = [WebSocketTransport, PollingTransport],
    firstDelay = 1_000,
    maxDelay = 15_000,
    timeout = 10_000,
  } = {}) {
    super();
    this.#options = { url, namespace, auth, transports, firstDelay, maxDelay, timeout };
  }

  /** Connect now, whatever pause there is; does nothing while it is connected or connecting. */
  connect() {
    this.isActive = true;
    if (this.#engine?.isOverdue) this.#lose("ping timeout");
    if (!this.#attempt) this.#begin();
  }

  /** Connect after a pause, which grows with every failure in a row and is never quite the same. */
  connectLater() {
    const { firstDelay, maxDelay } = this.#options;
    const delay = Math.min(maxDelay, firstDelay * 2 ** this.#failures++) * (0.5 + Math.random());
    this.isActive = true;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.connect(), delay);
  }

  disconnect() {
    this.isActive = false;
    if (this.isConnected) this.#send(DISCONNECT);
    if (this.#drop()) this.#tell("disconnect", "io client disconnect");
  }

  /**
   * Send an event and resolve to what the server acknowledges it with. Rejects with an Error whose `code` is `OFFLINE`
   * (at once where it is not connected, or when the connection ends before the answer) or `TIMEOUT`.
   */
  call(name, payload, timeout = 10_000) {
    if (this.#engine?.isOverdue) this.#lose("ping timeout");
    if (!this.isConnected) return Promise.reject(failure("OFFLINE"));
    return new Promise((resolve, reject) => {
      const id = String(this.#lastCall++);
      const late = () => this.#calls.delete(id) && reject(failure("TIMEOUT"));
      this.#calls.set(id, { resolve, reject, timer: setTimeout(late, timeout) });
      this.#send(EVENT, [name, payload], id);
    });
  }

  async #begin() {
    const attempt = (this.#attempt = {});
    this.#limitTime(() => this.#lose("timeout"));
    try {
      const auth = await this.#options.auth();
      // Meanwhile it may have been told to disconnect, and even to connect again.
      if (attempt === this.#attempt) this.#open(this.#options.transports, auth);
    } catch (error) {
      if (attempt === this.#attempt) this.#lose(error.message);
    }
  }

  /** Begin a session with the first of the transports, or else with the next. */
  #open([Transport, ...others], auth) {
    const engine = new Engine(Transport, this.#options.url, {
      onOpen: () => this.#send(CONNECT, auth),
      onMessage: (text) => this.#take(text),
      onEnd: (reason) => fail(reason),
    });
    const fail = (reason) => {
      engine.close();
      if (others.length > 0 && !engine.isOpen) this.#open(others, auth);
      else this.#lose(reason);
    };
    this.#engine = engine;
    this.#limitTime(() => fail("timeout"));
  }

  #limitTime(onLate) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(onLate, this.#options.timeout);
  }

  #send(type, data, id = "") {
    const { namespace } = this.#options;
    const place = namespace === "/" ? "" : `${namespace},`;
    this.#engine.send(type + place + id + (data === undefined ? "" : JSON.stringify(data)));
  }

  #take(text) {
    const [, type, namespace = "/", id, json] = PACKET.exec(text) ?? [];
    if (namespace !== this.#options.namespace) return;
    let data;
    try {
      data = json ? JSON.parse(json) : undefined;
    } catch {
      return this.#lose("parse error");
    }
    if (type === CONNECT) this.#enter();
    else if (type === EVENT && Array.isArray(data)) this.#hear(data, id);
    else if (type === ACK && Array.isArray(data)) this.#settle(id, data[0]);
    else if (type === DISCONNECT) this.#stop("io server disconnect");
    else if (type === CONNECT_ERROR) this.#stop(data?.message, data?.data);
    else this.#lose("parse error");
  }

  #enter() {
    clearTimeout(this.#timer);
    this.#failures = 0;
    this.isConnected = true;
    this.#tell("connect");
  }

  #hear([name, ...values], id) {
    const engine = this.#engine;
    let isOwed = id !== "";
    const acknowledge = (...answer) => {
      if (isOwed && engine === this.#engine) this.#send(ACK, answer, id);
      isOwed = false;
    };
    this.#tell("event", { name, values, acknowledge });
  }

  #settle(id, answer) {
    const call = this.#calls.get(id);
    // An ack after the timeout is ignored.
    if (!call) return;
    clearTimeout(call.timer);
    this.#calls.delete(id);
    call.resolve(answer);
  }

  /** The server does not want this connection: trying again is not for this class to decide. */
  #stop(reason, data) {
    this.isActive = false;
    this.#lose(reason, data);
  }

  #lose(reason, data) {
    const wasConnected = this.#drop();
    if (this.isActive) this.connectLater();
    if (wasConnected) this.#tell("disconnect", reason);
    else this.#tell("connect_error", Object.assign(new Error(reason), { data }));
  }

  /** Drop the session and reject pending acks. Returns whether it was connected. */
  #drop() {
    const wasConnected = this.isConnected;
    const calls = [...this.#calls.values()];
    clearTimeout(this.#timer);
    this.#calls.clear();
    this.#engine?.close();
    this.#engine = this.#attempt = null;
    this.isConnected = false;
    for (const { reject, timer } of calls) {
      clearTimeout(timer);
      reject(failure("OFFLINE"));
    }
    return wasConnected;
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

function failure(code) {
  return Object.assign(new Error(code), { code });
}
