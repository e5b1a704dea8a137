/** Reports delivered and read messages to the server: the latest of each room, not each message. */

const DELIVERED_DELAY = 300;

export class Receipts {
  #connection;
  #store;
  #arrived = new Map();
  #reading = new Set();
  #timer = 0;

  constructor(connection, store) {
    this.#connection = connection;
    this.#store = store;
  }

  /** A message of another user has arrived. */
  noteArrival(message) {
    this.#arrived.set(message.roomId, message);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#tellArrivals(), DELIVERED_DELAY);
  }

  /** Everything in this room has been seen. */
  async markRead(roomId) {
    const room = this.#store.room(roomId);
    const newest = room.messages.findLast((message) => message.senderId !== this.#store.me.id);
    if (!newest || newest.seq <= room.readUpTo(this.#store.me.id) || this.#reading.has(roomId)) return;
    const chat = this.#store.chat(roomId);
    const countedSeq = chat?.lastSeq;
    this.#reading.add(roomId);
    try {
      const { seq, unreadCount } = await this.#connection.call("message:read", { messageId: newest.messageId });
      room.raiseMark(this.#store.me.id, { read: seq });
      // A message that came meanwhile has been counted, but is not in this answer.
      if (chat && chat.lastSeq === countedSeq) chat.unread = unreadCount;
      this.#store.changed();
    } catch {
      // The next look at the room, or the next connection, says it again.
    } finally {
      this.#reading.delete(roomId);
    }
  }

  close() {
    clearTimeout(this.#timer);
  }

  #tellArrivals() {
    for (const [roomId, message] of this.#arrived) {
      if (message.seq <= this.#store.room(roomId).readUpTo(this.#store.me.id)) continue;
      this.#connection.call("message:delivered", { messageId: message.messageId }).catch(() => {});
    }
    this.#arrived.clear();
  }
}
