/** The conversation itself: what the server says goes into the store, what the user does goes to the server. */

import { Outbox } from "./outbox.js";
import { Receipts } from "./receipts.js";
import { Store } from "./store.js";
import { TypingSignal } from "./typing.js";

const RETRY_DELAY = 2_000;
const SOON = 100;
// So many at once are more than anybody reads from the first to the last.
const MAX_UNREAD = 500;

/** Events: `heard` with a message of another user as `detail`, `lost` with the id of a room that cannot be opened. */
export class Chat extends EventTarget {
  #api;
  #connection;
  #receipts;
  #timer = 0;
  /** The name of the server's history to which the numbers here belong; null before the first answer. */
  #epoch = null;
  #isCatchingUp = false;
  #isClosed = false;

  constructor(me, api, connection) {
    super();
    this.#api = api;
    this.#connection = connection;
    this.store = new Store(me);
    this.typing = new TypingSignal(connection);
    this.outbox = new Outbox(me.id, async (payload) => (await connection.call("message:send", payload)).message);
    this.#receipts = new Receipts(connection, this.store);
    this.#listen();
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.typing.forget();
    this.outbox.close();
    this.#receipts.close();
  }

  /** Show a room: its newest messages, everybody's marks, and whether the other is there. */
  async openRoom(roomId) {
    const { store } = this;
    store.openRoomId = roomId;
    store.changed();
    try {
      const room = store.room(roomId);
      room.hasOlderFailed = false;
      if (!room.isLoaded || !store.chat(roomId)) await this.#load(room);
      store.changed();
      if (room.lastSeq < (store.chat(roomId).lastSeq ?? 0)) this.#catchUpSoon();
      await this.#join(roomId);
    } catch (error) {
      if (error.code === "NOT_FOUND") this.dispatchEvent(new CustomEvent("lost", { detail: roomId }));
      else this.#retryLater(error);
    }
  }

  /** The newest messages, back to the first unread one where that is not too far. */
  async #load(room) {
    const view = await this.#api.getRoom(room.id);
    if (!this.store.chat(room.id)) await this.#adopt(view);
    room.setMembers(view.members);
    room.setOwn(view);
    if (room.isLoaded) return;
    const readSeq = room.readUpTo(this.store.me.id);
    let messages = await this.#api.readHistory(room.id);
    while (messages[0]?.seq > readSeq + 1 && messages.length < MAX_UNREAD) {
      const older = await this.#readOlder(room.id, messages[0].seq);
      if (!older) break;
      messages = [...older, ...messages];
    }
    // Of before the messages were read: what has changed since comes live, or by `sync`.
    room.lastRev = view.lastRev;
    room.fill(messages);
  }

  /** Null if that would be too much at once: the rest is loaded on scrolling. */
  #readOlder(roomId, before) {
    return this.#api.readHistory(roomId, { before, limit: 100 }).catch((error) => {
      if (error.code === "RATE_LIMITED") return null;
      throw error;
    });
  }

  closeRoom() {
    this.typing.stop();
    this.store.openRoomId = null;
    this.store.changed();
  }

  /** Resolves to the id of the room with this person. */
  async startChat(person, bookingId) {
    const room = await this.#api.openRoom(person.id, bookingId);
    await this.#adopt(room, person);
    return room.id;
  }

  /** Resolves to the id of a new group of these people. */
  async startGroup(name, userIds) {
    const room = await this.#api.createGroup(name, userIds);
    await this.#adopt(room);
    return room.id;
  }

  async loadOlder(roomId) {
    const room = this.store.room(roomId);
    if (!room.isLoaded || !room.hasOlder || room.isLoadingOlder) return;
    room.isLoadingOlder = true;
    this.store.changed();
    try {
      room.fill(await this.#api.readHistory(roomId, { before: room.messages[0].seq }));
      room.hasOlderFailed = false;
    } catch (error) {
      // Scrolling asks again, and so does the next look at the room.
      room.hasOlderFailed = true;
      this.#retryLater(error);
    } finally {
      room.isLoadingOlder = false;
      this.store.changed();
    }
  }

  async loadMoreChats() {
    const page = await this.#api.listChats(this.store.nextCursor);
    this.store.nextCursor = page.nextCursor;
    this.store.putChats(page.chats);
    this.#catchUpSoon();
  }

  send(roomId, content, attachment, replyTo) {
    this.typing.forget();
    this.outbox.add({ roomId, content, attachmentUrl: attachment?.fileUrl, messageType: attachment?.type, replyTo });
  }

  edit({ messageId }, content) {
    return this.#change("message:edit", { messageId, content });
  }

  remove({ messageId }) {
    return this.#change("message:delete", { messageId });
  }

  react({ messageId }, emoji, isOn) {
    return this.#change("message:react", { messageId, emoji, remove: !isOn });
  }

  /** The answer is shown at once; the event that everybody hears brings the number of the change. */
  async #change(event, payload) {
    const { message } = await this.#connection.call(event, payload);
    this.store.showChanged(message);
  }

  /** The open room is on the screen down to its end. */
  markRead(roomId) {
    return this.#receipts.markRead(roomId);
  }

  #listen() {
    const on = (name, take) =>
      this.#connection.addEventListener(name, (event) => this.#isClosed || take(event.detail));
    on("state", () => {
      if (this.#connection.state === "online") this.#catchUp();
      else this.store.noteDisconnect();
    });
    on("message:new", (message) => this.#take(message, true));
    on("message:changed", (change) => this.store.takeChange(change) && this.#catchUpSoon());
    on("messages:offline", (messages) => messages.forEach((message) => this.#take(message, false)));
    on("message:read", (receipt) => this.store.takeReceipt(receipt, "read"));
    on("message:delivered", (receipt) => this.store.takeReceipt(receipt, "delivered"));
    on("typing:start", (typing) => this.store.setTyping(typing, true));
    on("typing:stop", (typing) => this.store.setTyping(typing, false));
    on("user:online", ({ userId }) => this.store.setPresence(userId, true));
    on("user:offline", ({ userId, lastSeenAt }) => this.store.setPresence(userId, false, lastSeenAt));
    on("room:changed", ({ room }) => this.#adopt(room).catch(() => this.#catchUpSoon()));
    on("room:removed", ({ roomId }) => this.#leave(roomId));
    on("room:new", (room) => this.#adopt(room).catch(() => this.#catchUpSoon()));
    this.outbox.addEventListener("change", () => this.store.changed());
    this.outbox.addEventListener("stored", ({ detail }) => this.#take(detail, false));
  }

  #take(message, isLive) {
    const isMine = message.senderId === this.store.me.id;
    if (isMine && message.clientMessageId) this.outbox.settle(message.clientMessageId);
    const taken = this.store.take(message);
    if (taken === "unknown" || taken === "gap") this.#catchUpSoon();
    if (isMine || taken === "known") return;
    this.#receipts.noteArrival(message);
    if (isLive) this.dispatchEvent(new CustomEvent("heard", { detail: message }));
  }

  /** After each connect and after a gap: load the list, missed messages and the open room, then send the outbox. */
  async #catchUp() {
    if (this.#isCatchingUp) return this.#catchUpSoon();
    this.#isCatchingUp = true;
    try {
      await this.#refreshList();
      const listed = this.store.sortedChats();
      const loaded = this.store.loadedRooms();
      const rooms = Object.fromEntries(loaded.map((room) => [room.id, { seq: room.lastSeq, rev: room.lastRev }]));
      const answer = await this.#connection.call("sync", { rooms, epoch: this.#epoch });
      if (answer.reset) {
        // The server's database was restored: local messages may not exist any more.
        this.store.forgetHistory();
        await this.#refreshList();
      }
      this.#epoch = answer.epoch;
      const mine = new Set(answer.rooms.map(({ roomId }) => roomId));
      for (const { id } of listed) if (!mine.has(id)) this.#leave(id);
      for (const synced of answer.rooms) {
        // After a long absence it is quicker to begin again at the newest than to fetch everything in between.
        if (this.store.applySync(synced) && synced.roomId in rooms) this.store.room(synced.roomId).clear();
        const newest = synced.messages.at(-1);
        if (newest && newest.senderId !== this.store.me.id) this.#receipts.noteArrival(newest);
      }
      if (this.store.openRoomId) await this.openRoom(this.store.openRoomId);
    } catch (error) {
      // Rooms that the user was removed from meanwhile are refused, by their names.
      const lost = error.code === "NOT_FOUND" ? error.errors.map(({ path }) => path.replace("rooms.", "")) : [];
      lost.forEach((roomId) => this.#leave(roomId));
      if (lost.length > 0) this.#catchUpSoon();
      else this.#retryLater(error);
    } finally {
      this.#isCatchingUp = false;
    }
    this.outbox.flush();
  }

  /** The user is in this room no longer. */
  #leave(roomId) {
    this.store.forgetRoom(roomId);
    this.dispatchEvent(new CustomEvent("lost", { detail: roomId }));
  }

  #catchUpSoon(delay = SOON) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#isClosed || this.#catchUp(), delay);
  }

  /** While not connected there is nothing to do: the next connection catches up. */
  #retryLater(error) {
    if (!error.isPassing || this.#connection.state !== "online") return;
    this.#catchUpSoon(Math.max(RETRY_DELAY, (error.retryAfter ?? 0) * 1000));
  }

  async #refreshList() {
    const page = await this.#api.listChats();
    this.store.isConnected = this.#connection.state === "online";
    if (!this.store.hasListed) this.store.nextCursor = page.nextCursor;
    this.store.putChats(page.chats);
  }

  async #join(roomId) {
    const { room } = await this.#connection.call("room:join", { roomId });
    this.store.room(roomId).setMembers(room.members);
    this.store.room(roomId).setOwn(room);
    const { peerId } = this.store.chat(roomId);
    // A group has no peer whose presence would be shown.
    if (peerId === null) return;
    const { presence } = await this.#connection.call("presence:get", { userIds: [peerId] });
    for (const { userId, isOnline, lastSeenAt } of presence) this.store.setPresence(userId, isOnline, lastSeenAt);
  }

  /** Put a room on the list that the list did not hold. */
  async #adopt(room, person) {
    const peerId = room.user1Id === this.store.me.id ? room.user2Id : room.user1Id;
    // A group is shown by its own name and image.
    const peer =
      room.type === "GROUP"
        ? { fullName: room.name, profileImage: room.image, isOnline: false, lastSeenAt: null }
        : (person ?? (await this.#api.getUser(peerId)));
    const last = room.lastMessage;
    const known = this.store.chat(room.id);
    this.store.putChat({
      id: room.id,
      peerId,
      name: peer.fullName,
      image: peer.profileImage,
      bookingId: room.bookingId,
      isOnline: peer.isOnline,
      lastSeenAt: peer.lastSeenAt,
      text: last?.content ?? null,
      type: last?.type ?? null,
      time: last?.timestamp ?? null,
      unread: known?.unread ?? 0,
      lastSeq: known?.lastSeq ?? room.lastSeq,
    });
    this.store.room(room.id).setMembers(room.members);
    this.store.room(room.id).setOwn(room);
    this.store.changed();
  }
}
