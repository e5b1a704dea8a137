/** The REST calls that this client makes, each under a living token. */

import { callApi, sendFile } from "./http.js";

const roomAt = (roomId) => `/messages/chat-rooms/${encodeURIComponent(roomId)}`;
const membersOf = (roomId) => `${roomAt(roomId)}/members`;
const memberAt = (roomId, userId) => `${membersOf(roomId)}/${encodeURIComponent(userId)}`;
const TOKEN_CODES = new Set(["UNAUTHORIZED", "TOKEN_EXPIRED"]);

export class Api {
  #session;

  constructor(session) {
    this.#session = session;
  }

  searchPeople(words) {
    return this.#call("GET", `/users/search?${new URLSearchParams({ q: words, limit: 20 })}`);
  }

  getUser(userId) {
    return this.#call("GET", `/users/${encodeURIComponent(userId)}`);
  }

  /** The room with another user; created if there is none. */
  openRoom(otherUserId, bookingId) {
    return this.#call("POST", "/messages/chat-rooms", bookingId ? { otherUserId, bookingId } : { otherUserId });
  }

  createGroup(name, userIds) {
    return this.#call("POST", "/messages/chat-rooms", { type: "GROUP", name, userIds });
  }

  listMembers(roomId, cursor) {
    return this.#call("GET", `${membersOf(roomId)}?${new URLSearchParams({ limit: 100, ...(cursor && { cursor }) })}`);
  }

  addMembers(roomId, userIds) {
    return this.#call("POST", membersOf(roomId), { userIds });
  }

  /** `me` is oneself. */
  removeMember(roomId, userId) {
    return this.#call("DELETE", memberAt(roomId, userId));
  }

  changeRole(roomId, userId, role) {
    return this.#call("PATCH", memberAt(roomId, userId), { role });
  }

  renameGroup(roomId, name) {
    return this.#call("PATCH", roomAt(roomId), { name });
  }

  getRoom(roomId) {
    return this.#call("GET", roomAt(roomId));
  }

  listChats(cursor) {
    return this.#call("GET", `/messages/chats?${new URLSearchParams({ limit: 100, ...(cursor && { cursor }) })}`);
  }

  /** Up to `limit` messages below `before`, or the newest ones; oldest first. */
  async readHistory(roomId, { before, limit = 50 } = {}) {
    const query = new URLSearchParams({ limit, ...(before !== undefined && { before }) });
    const page = await this.#call("GET", `/messages/chats/${encodeURIComponent(roomId)}/messages?${query}`);
    return page.messages.sort((one, other) => one.seq - other.seq);
  }

  upload(file, onProgress, signal) {
    return this.#authorised((token) => sendFile(file, { token, onProgress, signal }));
  }

  #call(method, path, body) {
    return this.#authorised((token) => callApi(method, path, { body, token }));
  }

  async #authorised(call) {
    try {
      return await call(await this.#session.token());
    } catch (error) {
      if (!TOKEN_CODES.has(error.code) || !this.#session.user) throw error;
      await this.#session.renew();
      return call(await this.#session.token());
    }
  }
}
