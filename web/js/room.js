/** State of one room: a part of its log without gaps, the marks of its members, and who is typing. */

const TYPING_LIFE = 8_000;
// What the server tells of a message that another one answers.
const QUOTE_LENGTH = 200;

/** How many members more there are after a notice. */
function comingBy(notice) {
  const count = notice?.userIds?.length ?? 0;
  if (["ADDED", "JOINED"].includes(notice?.kind)) return count;
  return ["LEFT", "REMOVED"].includes(notice?.kind) ? -count : 0;
}

export class Room {
  /** Messages by ascending `seq`, without gaps: the log has none, so neither has a part of it. */
  messages = [];
  isLoaded = false;
  isLoadingOlder = false;
  /** The last attempt to load older ones failed: the page asks again only when there is a reason. */
  hasOlderFailed = false;
  /** The number of the last change of a message that is known here. */
  lastRev = 0;
  myRole = "MEMBER";
  memberCount = 2;
  #marks = new Map();
  #typing = new Map();

  constructor(id) {
    this.id = id;
  }

  get lastSeq() {
    return this.messages.at(-1)?.seq ?? 0;
  }

  get hasOlder() {
    return this.messages.length > 0 && this.messages[0].seq > 1;
  }

  get isTyping() {
    return this.#typing.size > 0;
  }

  /** Take a newer message. Returns `added`, `known`, or `gap` where others before it are missing. */
  take(message) {
    if (message.seq <= this.lastSeq) return "known";
    if (message.seq > this.lastSeq + 1 && this.messages.length > 0) return "gap";
    if (this.messages.length === 0 && message.seq > 1) return "gap";
    this.messages.push(message);
    this.memberCount += comingBy(message.notice);
    return "added";
  }

  /** Take a message as it is since a change. Replies to it show it as it is now. */
  change(message) {
    const { messageId } = message;
    const index = this.messages.findIndex((known) => known.messageId === messageId);
    if (index >= 0 && (this.messages[index].rev ?? 0) < message.rev) this.messages[index] = message;
    for (const [place, reply] of this.messages.entries()) {
      if (reply.replyTo?.messageId !== messageId) continue;
      const content = message.content.slice(0, QUOTE_LENGTH);
      this.messages[place] = { ...reply, replyTo: { ...reply.replyTo, content, type: message.type, deletedAt: message.deletedAt } };
    }
  }

  /** Put messages read from history around or before the ones that are here. */
  fill(messages) {
    const first = this.messages[0]?.seq ?? Infinity;
    const last = this.lastSeq;
    const newer = messages.filter((message) => message.seq > last);
    this.messages = [...messages.filter((message) => message.seq < first && message.seq <= last), ...this.messages];
    this.messages.push(...newer);
    this.isLoaded = true;
  }

  /** Forget the messages, to begin again at the newest. */
  clear() {
    this.messages = [];
    this.isLoaded = false;
  }

  setMembers(members) {
    for (const { userId, lastDeliveredSeq, lastReadSeq } of members) {
      this.raiseMark(userId, { delivered: lastDeliveredSeq, read: lastReadSeq });
    }
  }

  /** Take what the server says of the room and of this user's place in it. */
  setOwn({ myRole, memberCount }) {
    this.myRole = myRole;
    this.memberCount = memberCount;
  }

  /** Marks never decrease, and reading implies delivery. */
  raiseMark(userId, { delivered = 0, read = 0 }) {
    const mark = this.#marks.get(userId) ?? { delivered: 0, read: 0 };
    mark.read = Math.max(mark.read, read);
    mark.delivered = Math.max(mark.delivered, delivered, read);
    this.#marks.set(userId, mark);
  }

  readUpTo(userId) {
    return this.#marks.get(userId)?.read ?? 0;
  }

  /** The `seq` of the first unread message of another user; null if there is none. */
  firstUnreadBy(userId) {
    const readSeq = this.readUpTo(userId);
    return this.messages.find(({ seq, senderId, type }) => seq > readSeq && senderId !== userId && type !== "NOTICE")?.seq ?? null;
  }

  /** How far one's own message came: `sent`, `delivered` or `read` by everybody else. */
  tickOf(message) {
    const others = [...this.#marks].filter(([userId]) => userId !== message.senderId).map(([, mark]) => mark);
    if (others.length === 0) return "sent";
    if (others.every((mark) => mark.read >= message.seq)) return "read";
    return others.every((mark) => mark.delivered >= message.seq) ? "delivered" : "sent";
  }

  /** Someone types; it ends by itself, should the end never be heard. */
  startTyping(userId, onEnd) {
    this.stopTyping(userId);
    const timer = setTimeout(() => {
      this.#typing.delete(userId);
      onEnd();
    }, TYPING_LIFE);
    this.#typing.set(userId, timer);
  }

  stopTyping(userId) {
    clearTimeout(this.#typing.get(userId));
    this.#typing.delete(userId);
  }

  stopAllTyping() {
    for (const userId of [...this.#typing.keys()]) this.stopTyping(userId);
  }
}
