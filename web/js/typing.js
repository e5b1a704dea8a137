/** Says that I am typing: now and then while I do, and once when I stop. */

// Well within the server's five seconds, after which it would take the typing back.
const REPEAT_AFTER = 3_000;
const IDLE_AFTER = 4_000;

export class TypingSignal {
  #connection;
  #roomId = null;
  #toldAt = 0;
  #timer = 0;

  constructor(connection) {
    this.#connection = connection;
  }

  /** A key was pressed in this room. */
  note(roomId) {
    if (this.#roomId !== roomId) this.stop();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.stop(), IDLE_AFTER);
    if (this.#roomId === roomId && Date.now() - this.#toldAt < REPEAT_AFTER) return;
    this.#roomId = roomId;
    this.#toldAt = Date.now();
    this.#tell("typing:start", roomId);
  }

  stop() {
    if (this.#roomId !== null) this.#tell("typing:stop", this.#roomId);
    this.forget();
  }

  /** The message was sent: the server ends the typing by itself. */
  forget() {
    clearTimeout(this.#timer);
    this.#roomId = null;
  }

  #tell(event, roomId) {
    // A hint that is lost does no harm.
    this.#connection.call(event, { roomId }).catch(() => {});
  }
}
