/**
 * One session of Engine.IO 4 over one transport: the handshake, the server's pings, and the end.
 * Written from https://socket.io/docs/v4/engine-io-protocol/. There are no upgrades: `socket.js` begins with the better
 * transport. Binary messages are none of ours.
 */

const OPEN = "0";
const CLOSE = "1";
const PING = "2";
const PONG = "3";
const MESSAGE = "4";
const NOOP = "6";

export class Engine {
  #transport;
  #callbacks;
  #patience = Infinity;
  #deadline = Infinity;
  #timer = 0;
  #isEnded = false;
  /** Whether the server ever answered the handshake. */
  isOpen = false;

  /** Calls `onOpen()`, `onMessage(text)` for each message, and `onEnd(reason)` once, unless it is closed from here. */
  constructor(Transport, url, callbacks) {
    this.#callbacks = callbacks;
    this.#transport = new Transport(url, {
      onPacket: (packet) => this.#take(packet),
      onEnd: (reason) => this.#end(reason),
    });
  }

  /** Whether the server has been silent for too long. A timer says so too, but not while the machine sleeps. */
  get isOverdue() {
    return Date.now() > this.#deadline;
  }

  send(message) {
    this.#transport.send(MESSAGE + message);
  }

  close() {
    if (this.#isEnded) return;
    this.#stop();
    this.#transport.close(this.isOpen && CLOSE);
  }

  #take(packet) {
    if (this.#isEnded) return;
    this.#expectNext();
    // A binary one has no first character.
    const type = packet[0];
    const data = packet.slice(1);
    if (type === MESSAGE && this.isOpen) this.#callbacks.onMessage(data);
    else if (type === PING) this.#transport.send(PONG + data);
    else if (type === OPEN) this.#open(data);
    else if (type === CLOSE) this.#end("transport close");
    else if (type !== NOOP) this.#end("parse error");
  }

  #open(data) {
    try {
      const { sid, pingInterval, pingTimeout, maxPayload } = JSON.parse(data);
      this.#transport.begin(sid, maxPayload);
      this.#patience = pingInterval + pingTimeout;
    } catch {
      return this.#end("parse error");
    }
    this.isOpen = true;
    this.#expectNext();
    this.#callbacks.onOpen();
  }

  /** The server pings; whatever it sends shows as well that it is there. */
  #expectNext() {
    if (!this.isOpen) return;
    clearTimeout(this.#timer);
    this.#deadline = Date.now() + this.#patience;
    this.#timer = setTimeout(() => this.#end("ping timeout"), this.#patience);
  }

  #end(reason) {
    if (this.#isEnded) return;
    this.#stop();
    this.#transport.close();
    this.#callbacks.onEnd(reason);
  }

  #stop() {
    this.#isEnded = true;
    clearTimeout(this.#timer);
  }
}
