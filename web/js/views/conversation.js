/** The open room: its head, its messages with scroll-back, and whether the end is in sight. */

import { element, icon, reconcile } from "../dom.js";
import { FileNames } from "../file_names.js";
import { lastSeen } from "../format.js";
import { avatar } from "./avatar.js";
import { ComposerView } from "./composer.js";
import { UNREAD_KEY, conversationLines } from "./message.js";

const NEAR_END = 80;
const NEAR_START = 300;
const UNREAD_MARGIN = 12;
const HANDS = ["wheel", "touchmove", "pointerdown", "keydown"];

export class ConversationView {
  #chat = null;
  #pictures;
  #composer;
  #actions;
  #onBack;
  #onMembers;
  #shownRoomId = null;
  #isAtEnd = true;
  /** Whether the messages begin at the first unread one, until the user moves them. */
  #isAtUnread = false;
  /** The `seq` of the first unread message when the room was opened; undefined until its messages are here. */
  #unreadSeq = undefined;
  #newestKey = null;
  #fileNames = new FileNames(() => this.#chat?.store.changed());
  #room = document.getElementById("room");
  #noRoom = document.getElementById("no-room");
  #header = document.getElementById("room-header");
  #messages = document.getElementById("messages");
  #typing = document.getElementById("typing");
  #toEnd = document.getElementById("to-end");

  constructor(api, pictures, { onBack, onMembers }) {
    this.#pictures = pictures;
    this.#composer = new ComposerView(api);
    const tell = (error) => this.#composer.showError(error.message);
    this.#actions = {
      react: (message, emoji, isOn) => this.#chat.react(message, emoji, isOn).catch(tell),
      reply: (message) => this.#composer.reply(message),
      edit: (message) => this.#composer.edit(message),
      remove: (message) => this.#chat.remove(message).catch(tell),
    };
    this.#onBack = onBack;
    this.#onMembers = onMembers;
    this.#messages.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    this.#toEnd.addEventListener("click", () => this.#scrollToEnd());
    document.addEventListener("visibilitychange", () => this.#noteSeen());
    // Keep the scroll position when a phone's keyboard opens and when an image gets its size.
    new ResizeObserver(() => this.#stay()).observe(this.#messages);
    this.#messages.addEventListener("load", () => this.#stay(), { capture: true });
    for (const name of HANDS) this.#messages.addEventListener(name, () => (this.#isAtUnread = false), { passive: true });
  }

  begin(chat) {
    this.#chat = chat;
    this.#shownRoomId = null;
    this.#messages.replaceChildren();
    this.#composer.begin(chat);
  }

  /** Go to where one writes; on a touch screen to the name, for the keyboard would cover half of it. */
  #focus() {
    if (matchMedia("(hover: hover)").matches) this.#composer.focus();
    else this.#header.querySelector("h2").focus();
  }

  render() {
    const { store } = this.#chat;
    const chat = store.chat(store.openRoomId);
    this.#noRoom.hidden = store.openRoomId !== null;
    this.#room.hidden = !chat;
    if (!chat) {
      this.#shownRoomId = null;
      return;
    }
    const isOther = this.#shownRoomId !== chat.id;
    if (isOther) {
      this.#shownRoomId = chat.id;
      this.#messages.replaceChildren();
      this.#isAtEnd = true;
      this.#isAtUnread = false;
      this.#unreadSeq = undefined;
      this.#newestKey = null;
      this.#toEnd.hidden = true;
      this.#composer.show(chat.id);
    }
    const room = store.room(chat.id);
    this.#renderHeader(chat, store.presenceOf(chat), room.memberCount);
    if (isOther) this.#focus();
    this.#renderMessages(room);
    const words = room.isTyping ? [chat.name, " is typing…"] : [];
    if (this.#typing.textContent !== words.join("")) {
      this.#typing.replaceChildren(...words.map((part) => element("span", { dir: "auto" }, part)));
    }
  }

  #renderHeader(chat, isOnline, memberCount) {
    const isGroup = chat.peerId === null;
    // A space keeps the height where nothing is known.
    const presence = isGroup ? `${memberCount} members` : isOnline === undefined ? "\u00a0" : isOnline ? "online" : lastSeen(chat.lastSeenAt);
    reconcile(this.#header, [
      {
        key: "header",
        signature: JSON.stringify([chat.id, chat.name, chat.image, chat.bookingId, isOnline, presence]),
        create: () =>
          element(
            "div",
            { class: "person" },
            element(
              "button",
              { type: "button", class: "round back", "aria-label": "Back to the chats", onclick: () => this.#onBack() },
              icon("back"),
            ),
            avatar({ id: chat.peerId ?? chat.id, name: chat.name, picture: this.#pictures.ofPerson(chat.image), isOnline }),
            element(
              "div",
              { class: "words" },
              element("h2", { dir: "auto", tabindex: "-1" }, chat.name),
              isGroup ? this.#membersButton(chat, presence) : element("p", { class: "said" }, presence),
              chat.bookingId && element("span", { class: "tag" }, `Booking ${chat.bookingId}`),
            ),
          ),
      },
    ]);
  }

  #membersButton(chat, words) {
    const onclick = () => this.#onMembers(this.#chat.store.room(chat.id), chat.name);
    return element("button", { type: "button", class: "plain members", "aria-haspopup": "dialog", onclick }, words);
  }

  #renderMessages(room) {
    const list = this.#messages;
    const { outbox, store } = this.#chat;
    const pending = outbox.entriesOf(room.id);
    const isFirstLook = room.isLoaded && this.#unreadSeq === undefined;
    if (isFirstLook) this.#unreadSeq = room.firstUnreadBy(store.me.id);
    const lines = conversationLines(room, pending, store.me, {
      unreadSeq: this.#unreadSeq,
      isGroup: store.chat(room.id)?.peerId === null,
      mayDelete: store.chat(room.id)?.peerId === null && room.myRole !== "MEMBER",
      actions: this.#actions,
      fileNames: this.#fileNames,
      pictures: this.#pictures,
      onRetry: (id, again = true) => (again ? outbox.retry(id) : outbox.settle(id)),
    });
    list.setAttribute("aria-busy", String(!room.isLoaded || room.isLoadingOlder));
    const newestKey = lines.at(-1)?.key ?? null;
    const isMineNew = newestKey !== this.#newestKey && pending.length > 0;
    const hasNew = newestKey !== this.#newestKey;
    this.#newestKey = newestKey;
    const fromEnd = list.scrollHeight - list.scrollTop;
    const firstKey = list.firstElementChild?.nextElementSibling?.dataset.key;
    reconcile(list, lines);
    if (isFirstLook && this.#unreadSeq !== null) this.#scrollToUnread();
    else if (this.#isAtEnd || isMineNew) this.#scrollToEnd();
    else if (hasNew) this.#toEnd.hidden = false;
    else if (firstKey && list.firstElementChild?.nextElementSibling?.dataset.key !== firstKey) {
      // Older messages were added above: keep the visible ones in place.
      list.scrollTop = list.scrollHeight - fromEnd;
    }
    this.#noteSeen();
    // A first page that does not fill the screen cannot be scrolled.
    const isFilled = list.scrollHeight > list.clientHeight;
    if (room.isLoaded && !isFilled && !room.hasOlderFailed) this.#chat.loadOlder(room.id);
  }

  #onScroll() {
    const list = this.#messages;
    this.#noteEnd();
    this.#noteSeen();
    if (list.scrollTop < NEAR_START && this.#shownRoomId) this.#chat.loadOlder(this.#shownRoomId);
  }

  #noteEnd() {
    const list = this.#messages;
    this.#isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END;
    if (this.#isAtEnd) this.#toEnd.hidden = true;
  }

  #stay() {
    if (this.#isAtUnread) this.#scrollToUnread();
    else if (this.#isAtEnd) this.#scrollToEnd();
  }

  #scrollToEnd() {
    this.#messages.scrollTop = this.#messages.scrollHeight;
    this.#isAtEnd = true;
    this.#isAtUnread = false;
    this.#toEnd.hidden = true;
  }

  /** Scroll to the first unread message. Messages that do not fit stay unread below. */
  #scrollToUnread() {
    const list = this.#messages;
    const divider = list.querySelector(`[data-key="${UNREAD_KEY}"]`);
    if (divider) list.scrollTop = divider.offsetTop - list.offsetTop - UNREAD_MARGIN;
    this.#isAtUnread = true;
    this.#toEnd.hidden = false;
    this.#noteEnd();
  }

  #noteSeen() {
    if (this.#shownRoomId && this.#isAtEnd && !document.hidden) this.#chat.markRead(this.#shownRoomId);
  }
}
