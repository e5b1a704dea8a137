/** Status bar: the user, the sign-out button, and the state of the connection. */

import { avatar } from "./avatar.js";
import { element } from "../dom.js";

const WORDS = { connecting: "Connecting…", offline: "Not connected. Trying again…", online: "" };

export class StatusView {
  #pictures;
  #me = document.querySelector("[data-part=me]");
  #line = document.getElementById("connection");

  constructor(connection, pictures, { onSignOut }) {
    this.#pictures = pictures;
    connection.addEventListener("state", () => this.#show(connection.state));
    document.getElementById("sign-out").addEventListener("click", onSignOut);
  }

  begin(user) {
    this.#show("connecting");
    this.#me.replaceChildren(
      avatar({ id: user.id, name: user.fullName, picture: this.#pictures.ofPerson(user.profileImage) }),
      element("strong", { dir: "auto" }, user.fullName),
    );
  }

  #show(state) {
    this.#line.textContent = WORDS[state];
    this.#line.dataset.state = state;
  }
}
