/** Who I am, the way out, and how the connection is. */

import { avatar } from "./avatar.js";
import { element } from "../dom.js";

const WORDS = { connecting: "Connecting…", offline: "Not connected. Trying again…", online: "" };

export class StatusView {
  #me = document.querySelector("[data-part=me]");

  constructor(connection, { onSignOut }) {
    const line = document.getElementById("connection");
    connection.addEventListener("state", () => {
      line.textContent = WORDS[connection.state];
      line.dataset.state = connection.state;
    });
    document.getElementById("sign-out").addEventListener("click", onSignOut);
  }

  begin(user) {
    document.getElementById("connection").textContent = WORDS.connecting;
    this.#me.replaceChildren(
      avatar({ id: user.id, name: user.fullName, image: user.profileImage }),
      element("strong", { dir: "auto" }, user.fullName),
    );
  }
}
