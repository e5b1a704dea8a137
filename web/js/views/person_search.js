/** A field that finds people as one types, and the list of those found. */

import { element, reconcile } from "../dom.js";
import { avatar } from "./avatar.js";

const TYPING_PAUSE = 200;

export class PersonSearch {
  #api;
  #pictures;
  #onChoose;
  #timer = 0;
  #asked = 0;
  #words;
  #state;
  #found;

  /** The elements with the ids `words`, `state` and `found`. `onChoose(user)` is called for the one that is pressed. */
  constructor(api, pictures, { words, state, found, onChoose }) {
    this.#api = api;
    this.#pictures = pictures;
    this.#onChoose = onChoose;
    this.#words = document.getElementById(words);
    this.#state = document.getElementById(state);
    this.#found = document.getElementById(found);
    this.#words.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.search(), TYPING_PAUSE);
    });
  }

  /** Empty the field and the list, and say this. */
  clear(words = "") {
    this.#words.value = "";
    this.#asked += 1;
    this.#show([], words);
  }

  say(words) {
    this.#state.textContent = words;
  }

  /** Press the only one found; else search now. */
  submit() {
    const buttons = this.#found.querySelectorAll("button");
    if (buttons.length === 1) buttons[0].click();
    else this.search();
  }

  async search() {
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
    this.say(state);
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
        { type: "button", class: "line", onclick: () => this.#onChoose(user) },
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
}
