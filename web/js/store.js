/** State of the page: chats, rooms opened so far, users online. Dispatches one `change` for many changes. */

import { Room } from "./room.js";

export class Store extends EventTarget {
  #rooms = new Map();
  #chats = new Map();
  #isTold = true;
  openRoomId = null;
  nextCursor = null;
  hasListed = false;
  isConnected = false;

  constructor(me) {
    super();
    this.me = me;
  }

  /** A chat is `{id, peerId, name, image, bookingId, isOnline, lastSeenAt, text, type, time, unread, lastSeq}`. */
  chat(roomId) {
    return this.#chats.get(roomId);
  }

  /** Whether the other user is online; undefined while disconnected, and for groups. */
  presenceOf(chat) {
    return this.isConnected && chat.peerId !== null ? chat.isOnline : undefined;
  }

  /** The latest first; those without a message come last. */
  sortedChats() {
    return [...this.#chats.values()].sort((one, other) => (other.time ?? "").localeCompare(one.time ?? ""));
  }

  get unreadInAll() {
    return [...this.#chats.values()].reduce((sum, chat) => sum + chat.unread, 0);
  }

  room(roomId) {
    if (!this.#rooms.has(roomId)) this.#rooms.set(roomId, new Room(roomId));
    return this.#rooms.get(roomId);
  }

  loadedRooms() {
    return [...this.#rooms.values()].filter((room) => room.isLoaded);
  }

  /** Take lines of the chat list as the server answers them. */
  putChats(views) {
    for (const view of views) {
      const known = this.#chats.get(view.chatId);
      // Live events may be newer than the list, and their counts are exact.
      const isNewer = !known || (view.lastMessageTime ?? "") >= (known.time ?? "");
      this.putChat({
        id: view.chatId,
        peerId: view.participantId,
        name: view.participantName,
        image: view.participantImage,
        bookingId: view.transactionId,
        isOnline: view.isOnline,
        ...(isNewer && { text: view.lastMessage, type: view.lastMessageType, time: view.lastMessageTime }),
        unread: known && known.lastSeq !== null ? known.unread : view.unreadCount,
      });
    }
    this.hasListed = true;
    this.changed();
  }

  putChat(chat) {
    this.#chats.set(chat.id, { lastSeq: null, lastSeenAt: null, ...this.#chats.get(chat.id), ...chat });
    this.changed();
  }

  /** Take what `sync` says of a room. Its counts are the truth; returns whether messages are still missing. */
  applySync({ roomId, messages, changed, lastSeq, lastRev, unreadCount, hasMore }) {
    const chat = this.#chats.get(roomId);
    if (chat) {
      chat.lastSeq = Math.max(lastSeq, chat.lastSeq ?? 0);
      if (chat.lastSeq === lastSeq) chat.unread = unreadCount;
    }
    const room = this.#rooms.get(roomId);
    if (room?.isLoaded) {
      for (const message of messages) room.take(message);
      for (const message of changed) room.change(message);
      room.lastRev = Math.max(room.lastRev, lastRev);
    }
    this.changed();
    return hasMore || (room?.isLoaded && room.lastSeq < lastSeq);
  }

  /** Take a message, live or late. Returns `unknown` for a chat not listed, else as `Room.take`. */
  take(message) {
    const chat = this.#chats.get(message.roomId);
    if (!chat) return "unknown";
    // Before the first sync has told the count, it does not know this message; afterwards each counts once.
    if (chat.lastSeq !== null && message.seq > chat.lastSeq) {
      chat.lastSeq = message.seq;
      if (message.senderId !== this.me.id && message.type !== "NOTICE") chat.unread += 1;
    }
    if (message.timestamp >= (chat.time ?? "")) {
      Object.assign(chat, { text: message.content, type: message.type, time: message.timestamp });
    }
    const room = this.#rooms.get(message.roomId);
    room?.stopTyping(message.senderId);
    this.changed();
    return room?.isLoaded ? room.take(message) : "added";
  }

  /** Show a message as it is since a change of one's own. */
  showChanged(message) {
    this.#rooms.get(message.roomId)?.change(message);
    this.changed();
  }

  /** Take a change of a message. Returns whether changes before it are missing. */
  takeChange({ roomId, rev, prevRev, message }) {
    const chat = this.#chats.get(roomId);
    if (chat && message.timestamp === chat.time) Object.assign(chat, { text: message.content, type: message.type });
    const room = this.#rooms.get(roomId);
    this.changed();
    if (!room?.isLoaded) return false;
    room.change(message);
    if (rev <= room.lastRev) return false;
    if (prevRev !== room.lastRev) return true;
    room.lastRev = rev;
    return false;
  }

  /** A mark moved. My own moves on another device too. */
  takeReceipt({ roomId, seq, userId }, kind) {
    this.room(roomId).raiseMark(userId, { [kind]: seq });
    const chat = this.#chats.get(roomId);
    if (chat && kind === "read" && userId === this.me.id && seq >= (chat.lastSeq ?? 0)) chat.unread = 0;
    this.changed();
  }

  setPresence(userId, isOnline, lastSeenAt = null) {
    for (const chat of this.#chats.values()) {
      if (chat.peerId !== userId) continue;
      Object.assign(chat, { isOnline, lastSeenAt: lastSeenAt ?? chat.lastSeenAt });
      if (!isOnline) this.#rooms.get(chat.id)?.stopTyping(userId);
    }
    this.changed();
  }

  setTyping({ roomId, userId }, isTyping) {
    const room = this.room(roomId);
    if (isTyping) room.startTyping(userId, () => this.changed());
    else room.stopTyping(userId);
    this.changed();
  }

  /** The user is in this room no longer. */
  forgetRoom(roomId) {
    this.#chats.delete(roomId);
    this.#rooms.delete(roomId);
    this.changed();
  }

  /** The server's history is another one than that of all this. */
  forgetHistory() {
    this.#chats.clear();
    this.#rooms.clear();
    this.hasListed = false;
    this.changed();
  }

  /** The connection is lost: forget who is typing and who is online. */
  noteDisconnect() {
    this.isConnected = false;
    for (const room of this.#rooms.values()) room.stopAllTyping();
    this.changed();
  }

  changed() {
    if (!this.#isTold) return;
    this.#isTold = false;
    queueMicrotask(() => {
      this.#isTold = true;
      this.dispatchEvent(new Event("change"));
    });
  }
}
