/** The dialog of a group: its name, its members and their roles, adding and removing people, and leaving. */

import { element, icon, reconcile } from "../dom.js";
import { avatar } from "./avatar.js";
import { PersonSearch } from "./person_search.js";

const ROLES = { OWNER: "owner", ADMIN: "admin", MEMBER: "member" };

/** The roles that somebody may give to a member: owners any, admins make admins of plain members. */
function rolesToGive(myRole, role) {
  if (myRole === "OWNER") return Object.keys(ROLES);
  return myRole === "ADMIN" && role === "MEMBER" ? ["ADMIN", "MEMBER"] : [];
}

export class GroupView {
  #api;
  #pictures;
  #me = null;
  #room = null;
  #members = [];
  #cursor = null;
  #isSure = false;
  #search;
  #dialog = document.getElementById("group");
  #title = document.getElementById("group-title");
  #rename = document.getElementById("group-rename");
  #name = document.getElementById("group-name");
  #list = document.getElementById("group-members");
  #more = document.getElementById("group-more");
  #add = document.getElementById("group-add");
  #leave = document.getElementById("group-leave");

  constructor(api, pictures) {
    this.#api = api;
    this.#pictures = pictures;
    this.#search = new PersonSearch(api, pictures, {
      words: "group-words",
      state: "group-state",
      found: "group-found",
      onChoose: (user) => this.#act(() => this.#api.addMembers(this.#room.id, [user.id]), `${user.fullName} is in.`),
    });
    this.#more.addEventListener("click", () => this.#load());
    this.#leave.addEventListener("click", () => this.#leaveGroup());
    // By Enter, or by going on to something else.
    this.#name.addEventListener("change", () => this.#renameGroup());
    this.#dialog.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target.tagName !== "INPUT" || event.isComposing) return;
      event.preventDefault();
      if (event.target === this.#name) this.#renameGroup();
      else this.#search.submit();
    });
  }

  /** Show a group: `room` is its state, `name` its name, `me` the user. */
  async open(room, name, me) {
    this.#room = room;
    this.#me = me;
    this.#title.textContent = this.#name.value = name;
    this.#isSure = false;
    this.#search.clear();
    this.#begin();
    this.#dialog.showModal();
    await this.#load();
  }

  close() {
    this.#dialog.close();
  }

  #begin() {
    this.#members = [];
    this.#cursor = null;
    this.#render();
  }

  async #load() {
    try {
      const page = await this.#api.listMembers(this.#room.id, this.#cursor);
      this.#members.push(...page.members);
      this.#cursor = page.nextCursor;
      this.#render();
    } catch (error) {
      this.#search.say(error.message);
    }
  }

  /** Change the members, then show them as they are. */
  async #act(change, words) {
    try {
      await change();
      this.#begin();
      await this.#load();
      this.#search.clear(words);
    } catch (error) {
      this.#search.say(error.message);
      // A choice that was refused is taken back.
      this.#list.replaceChildren();
      this.#render();
    }
  }

  #renameGroup() {
    const name = this.#name.value.trim();
    if (name === this.#title.textContent) return;
    this.#act(async () => {
      const room = await this.#api.renameGroup(this.#room.id, name);
      this.#title.textContent = this.#name.value = room.name;
    }, "Renamed.");
  }

  /** It asks once: the second press leaves. The page goes back to the list when the server says so. */
  #leaveGroup() {
    if (!this.#isSure) {
      this.#isSure = true;
      this.#render();
      return;
    }
    this.#api.removeMember(this.#room.id, "me").then(
      () => this.close(),
      (error) => this.#search.say(error.message),
    );
  }

  #render() {
    const { myRole } = this.#room;
    this.#rename.hidden = this.#add.hidden = myRole === "MEMBER";
    this.#more.hidden = this.#cursor === null;
    this.#leave.textContent = this.#isSure ? "Leave? Press again." : "Leave the group";
    reconcile(
      this.#list,
      this.#members.map(({ user, role }) => ({
        key: user.id,
        signature: JSON.stringify([user.fullName, role, user.isOnline, myRole]),
        create: () => this.#line(user, role),
      })),
    );
  }

  #line(user, role) {
    const { myRole } = this.#room;
    const mayRemove = user.id !== this.#me.id && (myRole === "OWNER" || (myRole === "ADMIN" && role === "MEMBER"));
    const remove = () => this.#act(() => this.#api.removeMember(this.#room.id, user.id), `${user.fullName} is out.`);
    return element(
      "li",
      { class: "member" },
      avatar({ id: user.id, name: user.fullName, picture: this.#pictures.ofPerson(user.profileImage), isOnline: user.isOnline }),
      element("span", { class: "words" }, element("strong", { dir: "auto" }, user.fullName), this.#role(user, role)),
      mayRemove &&
        element("button", { type: "button", class: "round", "aria-label": `Remove ${user.fullName}`, onclick: remove }, icon("close")),
    );
  }

  #role(user, role) {
    const roles = rolesToGive(this.#room.myRole, role);
    if (roles.length === 0) return element("span", { class: "said" }, role === "MEMBER" ? "" : ROLES[role]);
    const onchange = ({ target }) =>
      this.#act(() => this.#api.changeRole(this.#room.id, user.id, target.value), `${user.fullName} is ${ROLES[target.value]} now.`);
    return element(
      "select",
      { class: "role", "aria-label": `Role of ${user.fullName}`, onchange },
      ...roles.map((one) => element("option", { value: one, selected: one === role }, ROLES[one])),
    );
  }
}
