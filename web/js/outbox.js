/** Messages on their way: kept through reloads, sent in order, and again under the same id until the server answers. */

const FIRST_DELAY = 1_000;
const MAX_DELAY = 30_000;

/**
 * An entry is `{clientMessageId, roomId, content, attachmentUrl, messageType, replyTo, createdAt, state, error}`;
 * `replyTo` has what is shown of the other message, and `state` is `waiting`, or `failed` where the server said no for good. Since the id stays the same, no retry makes a second
 * message. Events: `change`, and `stored` with the message as `detail`.
 */
export class Outbox extends EventTarget {
  #entries;
  #storageKey;
  #send;
  #isSending = false;
  #delay = FIRST_DELAY;
  #timer = 0;

  /** `send(payload)` resolves to the stored message or rejects with an `ApiError`. */
  constructor(userId, send) {
    super();
    this.#storageKey = `madang.outbox.${userId}`;
    this.#entries = JSON.parse(sessionStorage.getItem(this.#storageKey) ?? "[]");
    this.#send = send;
  }

  get size() {
    return this.#entries.length;
  }

  entriesOf(roomId) {
    return this.#entries.filter((entry) => entry.roomId === roomId);
  }

  add({ roomId, content, attachmentUrl = null, messageType = "TEXT", replyTo = null }) {
    const createdAt = new Date().toISOString();
    const clientMessageId = randomId();
    const said = { content, attachmentUrl, messageType, replyTo };
    this.#entries.push({ clientMessageId, roomId, ...said, createdAt, state: "waiting" });
    this.#changed();
    this.flush();
  }

  /** Send what waits, now. */
  async flush() {
    clearTimeout(this.#timer);
    if (this.#isSending) return;
    this.#isSending = true;
    try {
      let entry;
      while ((entry = this.#entries.find(({ state }) => state === "waiting"))) await this.#deliver(entry);
      this.#delay = FIRST_DELAY;
    } catch (error) {
      // If not connected, the next connection flushes. Otherwise the server may accept it on the next try.
      if (error.code !== "OFFLINE") this.#flushLater(error.retryAfter);
    } finally {
      this.#isSending = false;
    }
  }

  /** The server has this message, whichever way that was learnt. */
  settle(clientMessageId) {
    const index = this.#entries.findIndex((entry) => entry.clientMessageId === clientMessageId);
    if (index < 0) return;
    this.#entries.splice(index, 1);
    this.#changed();
  }

  retry(clientMessageId) {
    const entry = this.#entries.find((one) => one.clientMessageId === clientMessageId);
    if (!entry) return;
    Object.assign(entry, { state: "waiting", error: undefined });
    this.#changed();
    this.flush();
  }

  clear() {
    clearTimeout(this.#timer);
    this.#entries = [];
    sessionStorage.removeItem(this.#storageKey);
  }

  /** Stop the timer. Unsent messages stay stored. */
  close() {
    clearTimeout(this.#timer);
  }

  async #deliver(entry) {
    const { clientMessageId, roomId, content, attachmentUrl, messageType, replyTo } = entry;
    try {
      const payload = { clientMessageId, roomId, content, messageType };
      if (attachmentUrl) payload.attachmentUrl = attachmentUrl;
      if (replyTo) payload.replyTo = replyTo.messageId;
      const message = await this.#send(payload);
      this.dispatchEvent(new CustomEvent("stored", { detail: message }));
      this.settle(clientMessageId);
    } catch (error) {
      if (error.isPassing) throw error;
      Object.assign(entry, { state: "failed", error: error.message });
      this.#changed();
    }
  }

  #flushLater(retryAfter) {
    this.#timer = setTimeout(() => this.flush(), retryAfter ? retryAfter * 1000 : this.#delay);
    this.#delay = Math.min(MAX_DELAY, this.#delay * 2);
  }

  #changed() {
    sessionStorage.setItem(this.#storageKey, JSON.stringify(this.#entries));
    this.dispatchEvent(new Event("change"));
  }
}

function randomId() {
  // crypto.randomUUID exists on secure pages only, and a server in a local network is not one.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
