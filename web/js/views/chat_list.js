/** The list of chats: name, last message and its time, unread count, online and typing marks. */

import { element, reconcile } from "../dom.js";
import { preview, shortMoment } from "../format.js";
import { avatar } from "./avatar.js";

export class ChatListView {
  #pictures;
  #onOpen;
  #list = document.getElementById("chat-list");
  #none = document.getElementById("no-chats");
  #more = document.getElementById("more-chats");

  constructor(pictures, { onOpen, onMore }) {
    this.#pictures = pictures;
    this.#onOpen = onOpen;
    this.#more.addEventListener("click", () => onMore().catch(() => {}));
  }

  /** Focus the row of a chat, or the title if there is none. */
  focus(roomId) {
    const line = roomId && this.#list.querySelector(`[data-key="${CSS.escape(roomId)}"] button`);
    (line || document.getElementById("chats-title")).focus();
  }

  render(store) {
    const chats = store.sortedChats();
    reconcile(
      this.#list,
      chats.map((chat) => {
        const isTyping = store.room(chat.id).isTyping;
        const isOpen = chat.id === store.openRoomId;
        const isOnline = store.presenceOf(chat);
        const { name, image, text, type, time, unread } = chat;
        return {
          key: chat.id,
          signature: JSON.stringify([name, image, isOnline, text, type, time && shortMoment(time), unread, isTyping, isOpen]),
          create: () => this.#line({ ...chat, isOnline, isTyping, isOpen }),
        };
      }),
    );
    this.#none.hidden = chats.length > 0 || !store.hasListed;
    this.#more.hidden = store.nextCursor === null;
  }

  #line({ id, peerId, name, image, bookingId, isOnline, text, type, time, unread, isTyping, isOpen }) {
    const said = isTyping ? "typing…" : preview(text, type);
    return element(
      "li",
      {},
      element(
        "button",
        { type: "button", class: "line", "aria-current": isOpen && "true", onclick: () => this.#onOpen(id) },
        avatar({ id: peerId ?? id, name, picture: this.#pictures.ofPerson(image), isOnline }),
        element(
          "span",
          { class: "words" },
          element(
            "span",
            { class: "first" },
            element("strong", { dir: "auto" }, name),
            element("span", { class: "unseen" }, isOnline ? ", online" : ""),
            time && element("time", { datetime: time }, shortMoment(time)),
          ),
          element(
            "span",
            { class: "second" },
            bookingId && element("span", { class: "tag" }, bookingId),
            element("span", { class: isTyping ? "said active" : "said", dir: "auto" }, said),
            unread > 0 &&
              element(
                "span",
                { class: "badge" },
                unread > 99 ? "99+" : String(unread),
                element("span", { class: "unseen" }, " unread"),
              ),
          ),
        ),
      ),
    );
  }
}
