/**
 * What carries the packets of Engine.IO 4: a WebSocket, or HTTP requests ("long-polling") where one is blocked.
 * Written from https://socket.io/docs/v4/engine-io-protocol/, section "Transports".
 *
 * A transport opens as soon as it is made. It gives each packet to `onPacket`, and tells `onEnd` why it broke, once;
 * after `close` it says nothing. `close(packet)` sends what waits and that packet first; `close()` drops what waits.
 */

// Between the packets of one HTTP body.
const SEPARATOR = "\x1e";
// When a page is left the browser goes on sending 64 KiB, and a character of a string has at most 3 bytes in UTF-8.
const MAX_KEPT_ALIVE = 20_000;
const ERROR = "transport error";

export class WebSocketTransport {
  #socket;

  constructor(url, { onPacket, onEnd }) {
    const address = addressOf(url, "websocket");
    address.protocol = address.protocol.replace("http", "ws");
    this.#socket = new WebSocket(address);
    this.#socket.onmessage = ({ data }) => onPacket(data);
    this.#socket.onerror = () => onEnd(ERROR);
    this.#socket.onclose = () => onEnd("transport close");
  }

  /** The server has answered the handshake. */
  begin() {}

  send(packet) {
    this.#socket.send(packet);
  }

  close(packet) {
    if (packet) this.send(packet);
    this.#socket.onmessage = this.#socket.onerror = this.#socket.onclose = null;
    this.#socket.close();
  }
}

export class PollingTransport {
  #address;
  #callbacks;
  #maxPayload = Infinity;
  #reading = new AbortController();
  #writing = new AbortController();
  #queue = [];
  #isWriting = false;
  #isClosed = false;

  constructor(url, callbacks) {
    this.#address = addressOf(url, "polling");
    this.#callbacks = callbacks;
    this.#read();
  }

  /** The server has answered the handshake: every request from now on names the session. */
  begin(sid, maxPayload = Infinity) {
    this.#address.searchParams.set("sid", sid);
    this.#maxPayload = maxPayload;
  }

  send(packet) {
    this.#queue.push(packet);
    this.#write();
  }

  close(packet) {
    this.#isClosed = true;
    this.#reading.abort();
    if (packet) return this.send(packet);
    this.#queue = [];
    this.#writing.abort();
  }

  /** Ask for packets, again and again: the server answers when it has some. */
  async #read() {
    try {
      while (!this.#isClosed) {
        const body = await this.#request({ signal: this.#reading.signal });
        for (const packet of body.split(SEPARATOR)) this.#callbacks.onPacket(packet);
      }
    } catch {
      this.#break();
    }
  }

  /** Send queued packets in order, one request at a time. */
  async #write() {
    if (this.#isWriting) return;
    this.#isWriting = true;
    try {
      while (this.#queue.length > 0) {
        const body = this.#nextBody();
        const keepalive = this.#isClosed && body.length <= MAX_KEPT_ALIVE;
        await this.#request({ method: "POST", body, keepalive, signal: this.#writing.signal });
      }
      this.#isWriting = false;
    } catch {
      this.#break();
    }
  }

  /** As many of the packets that wait as the server takes at once. */
  #nextBody() {
    const packets = [this.#queue.shift()];
    let size = sizeOf(packets[0]);
    while (this.#queue.length > 0) {
      size += SEPARATOR.length + sizeOf(this.#queue[0]);
      if (size > this.#maxPayload) break;
      packets.push(this.#queue.shift());
    }
    return packets.join(SEPARATOR);
  }

  async #request(options) {
    const response = await fetch(this.#address, { cache: "no-store", ...options });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return response.text();
  }

  #break() {
    if (!this.#isClosed) this.#callbacks.onEnd(ERROR);
  }
}

function addressOf(url, transport) {
  const address = new URL(url);
  address.search = new URLSearchParams({ EIO: "4", transport });
  return address;
}

function sizeOf(text) {
  return new TextEncoder().encode(text).length;
}
