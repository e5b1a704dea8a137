/** The dialog that finds people: it opens a room with one of them, or makes a group of several. */

import { element, icon, reconcile } from "../dom.js";
import { PersonSearch } from "./person_search.js";

const HINT = "Search by the beginning of a name, or by an email or phone number.";

export class PeopleView {
  #startChat;
  #startGroup;
  #onOpen;
  #search;
  /** Those who are to be in the group, by id. */
  #chosen = new Map();
  #dialog = document.getElementById("people");
  #booking = document.getElementById("people-booking");
  #isGroup = document.getElementById("people-group");
  #name = document.getElementById("people-name");
  #chosenList = document.getElementById("people-chosen");
  #make = document.getElementById("make-group");

  constructor(api, pictures, { startChat, startGroup, onOpen }) {
    this.#startChat = startChat;
    this.#startGroup = startGroup;
    this.#onOpen = onOpen;
    this.#search = new PersonSearch(api, pictures, {
      words: "people-words",
      state: "people-state",
      found: "people-found",
      onChoose: (user) => (this.#isGroup.checked ? this.#toggle(user) : this.#open(() => this.#startRoom(user))),
    });
    document.getElementById("new-chat").addEventListener("click", () => this.#begin());
    this.#isGroup.addEventListener("change", () => this.#render());
    this.#name.addEventListener("input", () => this.#render());
    this.#make.addEventListener("click", () => this.#makeGroup());
    // Enter in a field searches or opens the only one found; it does not close the dialog.
    this.#dialog.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target.tagName !== "INPUT" || event.isComposing) return;
      event.preventDefault();
      if (event.target === this.#name) this.#makeGroup();
      else this.#search.submit();
    });
  }

  close() {
    this.#dialog.close();
  }

  #begin() {
    this.#booking.value = "";
    this.#name.value = "";
    this.#isGroup.checked = false;
    this.#chosen.clear();
    this.#search.clear(HINT);
    this.#render();
    this.#dialog.showModal();
  }

  #startRoom(user) {
    return this.#startChat(user, this.#booking.value.trim() || undefined);
  }

  #toggle(user) {
    if (!this.#chosen.delete(user.id)) this.#chosen.set(user.id, user);
    this.#search.clear(HINT);
    this.#render();
  }

  #makeGroup() {
    if (this.#make.disabled) return;
    this.#open(() => this.#startGroup(this.#name.value.trim(), [...this.#chosen.keys()]));
  }

  /** Open the room that this begins. */
  async #open(begin) {
    try {
      const roomId = await begin();
      this.close();
      this.#onOpen(roomId);
    } catch (error) {
      this.#search.say(error.message);
    }
  }

  #render() {
    const isGroup = this.#isGroup.checked;
    this.#booking.closest("label").hidden = isGroup;
    this.#name.closest("label").hidden = !isGroup;
    this.#make.hidden = !isGroup;
    this.#make.disabled = !this.#name.value.trim();
    this.#chosenList.hidden = !isGroup || this.#chosen.size === 0;
    reconcile(
      this.#chosenList,
      [...this.#chosen.values()].map((user) => ({
        key: user.id,
        signature: user.fullName,
        create: () =>
          element(
            "li",
            {},
            element("span", { dir: "auto" }, user.fullName),
            element(
              "button",
              { type: "button", class: "round", "aria-label": `Leave ${user.fullName} out`, onclick: () => this.#toggle(user) },
              icon("close"),
            ),
          ),
      })),
    );
  }
}
