/** The dialog that finds people and opens a room with one of them. */

import { element, reconcile } from "../dom.js";
import { avatar } from "./avatar.js";

const TYPING_PAUSE = 200;

export class PeopleView {
  #api;
  #pictures;
  #startChat;
  #onOpen;
  #timer = 0;
  #asked = 0;
  #dialog = document.getElementById("people");
  #words = document.getElementById("people-words");
  #booking = document.getElementById("people-booking");
  #state = document.getElementById("people-state");
  #found = document.getElementById("people-found");

  constructor(api, pictures, { startChat, onOpen }) {
    this.#api = api;
    this.#pictures = pictures;
    this.#startChat = startChat;
    this.#onOpen = onOpen;
    document.getElementById("new-chat").addEventListener("click", () => this.#open());
    this.#words.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#search(), TYPING_PAUSE);
    });
    // Enter in a field searches or opens the only one found; it does not close the dialog.
    this.#dialog.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target.tagName !== "INPUT" || event.isComposing) return;
      event.preventDefault();
      const buttons = this.#found.querySelectorAll("button");
      if (buttons.length === 1) buttons[0].click();
      else this.#search();
    });
  }

  close() {
    this.#dialog.close();
  }

  #open() {
    this.#words.value = "";
    this.#booking.value = "";
    this.#show([], "Search by the beginning of a name, email or phone number.");
    this.#dialog.showModal();
  }

  async #search() {
    clearTimeout(this.#timer);
    const words = this.#words.value.trim();
    const question = ++this.#asked;
    if (!words) return this.#show([], "");
    try {
      const { users, total } = await this.#api.searchPeople(words);
      // Answers may overtake each other; only the last question counts.
      if (question !== this.#asked) return;
      const rest = total > users.length ? `${users.length} of ${total} people. Type more to narrow it down.` : "";
      this.#show(users, users.length ? rest || `${total} found.` : "Nobody found.");
    } catch (error) {
      if (question === this.#asked) this.#show([], error.message);
    }
  }

  #show(users, state) {
    this.#state.textContent = state;
    reconcile(
      this.#found,
      users.map((user) => ({
        key: user.id,
        signature: JSON.stringify([user.fullName, user.email, user.isOnline]),
        create: () => this.#line(user),
      })),
    );
  }

  #line(user) {
    const picture = this.#pictures.ofPerson(user.profileImage);
    return element(
      "li",
      {},
      element(
        "button",
        { type: "button", class: "line", onclick: () => this.#choose(user) },
        avatar({ id: user.id, name: user.fullName, picture, isOnline: user.isOnline }),
        element(
          "span",
          { class: "words" },
          element("strong", { dir: "auto" }, user.fullName, element("span", { class: "unseen" }, user.isOnline ? ", online" : "")),
          element("span", { class: "said" }, user.email),
        ),
      ),
    );
  }

  async #choose(user) {
    try {
      const roomId = await this.#startChat(user, this.#booking.value.trim() || undefined);
      this.close();
      this.#onOpen(roomId);
    } catch (error) {
      this.#state.textContent = error.message;
    }
  }
}
