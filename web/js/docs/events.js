/** The events of the sockets, both ways, and a connection that tries them. */

import { element } from "../dom.js";
import { Socket } from "../socket.js";
import { anchorOf, codeBlock, section, shown } from "./parts.js";

const LONGEST_SHOWN = 5_000;
const MOST_HEARD = 30;

/** The events of clients and those of the server, each with its messages. */
export function eventGroups(document) {
  const { messages } = document.channels.chat;
  const named = ({ $ref }) => messages[$ref.split("/").at(-1)];
  const entries = Object.entries(document.operations).map(([id, operation]) => ({
    id: anchorOf(id),
    operation,
    message: named(operation.messages[0]),
    replies: (operation.reply?.messages ?? []).map(named),
  }));
  return [
    ["Events to the server", entries.filter(({ operation }) => operation.action === "receive")],
    ["Events to clients", entries.filter(({ operation }) => operation.action === "send")],
  ];
}

/** One event. `line` is what it is tried on. */
export function eventEntry({ id, operation, message, replies }, schemas, line) {
  const [ack, refusal] = replies;
  const codes = refusal && schemas.resolve(refusal.payload).properties.error.properties.code.enum;
  return element(
    "details",
    { id, class: "entry" },
    element(
      "summary",
      {},
      element("span", { class: `method ${operation.action}` }, operation.action === "receive" ? "→ server" : "→ client"),
      element("code", { class: "path" }, message.name),
      element("span", { class: "what" }, operation.summary),
    ),
    section("Carries", schemas.fields(message.payload) ?? element("p", {}, schemas.words(message.payload))),
    section("Ack", ack && schemas.fields(ack.payload)),
    section("Refused with", codes && element("p", { class: "type" }, codes.join(", "))),
    operation["x-acked"] ? element("p", { class: "hint" }, "The server asks for an ack of it.") : null,
    section("Try it", ack && tryForm(message, schemas, line)),
  );
}

function tryForm(message, schemas, line) {
  const example = JSON.stringify(schemas.example(message.payload), null, 2);
  const answer = element("div", { class: "answer", role: "status" });
  const form = element(
    "form",
    { class: "try", novalidate: true },
    element("label", {}, "payload ", element("textarea", { name: "payload", rows: Math.min(12, example.split("\n").length) }, example)),
    element("button", { class: "primary", type: "submit" }, "Emit"),
    answer,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    answer.replaceChildren(element("p", { class: "hint" }, "Waiting …"));
    answer.replaceChildren(await line.emit(message.name, form.elements.payload.value));
  });
  return form;
}

/** A connection for trying, which is made with the first event, and shows what it hears. */
export class Line {
  #whoTries;
  #socket = null;
  #token = "";
  #heard = element("ol", { class: "heard" });

  constructor(whoTries) {
    this.#whoTries = whoTries;
  }

  /** A list of the events that came, the latest first. */
  get view() {
    const listen = element("button", { class: "plain", type: "button" }, "Connect and listen");
    listen.addEventListener("click", () => this.#connect().catch(({ message }) => this.#note("connect_error", message)));
    return element("section", { class: "line-in" }, element("h3", {}, "Heard by this page"), listen, this.#heard);
  }

  async emit(name, text) {
    try {
      const payload = JSON.parse(text);
      const socket = await this.#connect();
      return codeBlock(shown(JSON.stringify(await socket.call(name, payload)), LONGEST_SHOWN));
    } catch (error) {
      return element("p", { class: "bad" }, error instanceof SyntaxError ? "The payload is no JSON." : error.message);
    }
  }

  async #connect() {
    const token = this.#whoTries();
    if (this.#socket?.isConnected && this.#token === token) return this.#socket;
    this.#socket?.disconnect();
    this.#token = token;
    const socket = (this.#socket = new Socket({ namespace: "/chat", auth: () => ({ token }) }));
    socket.addEventListener("event", ({ detail }) => {
      this.#note(detail.name, JSON.stringify(detail.values[0]));
      detail.acknowledge?.();
    });
    socket.addEventListener("disconnect", ({ detail }) => this.#note("disconnect", detail));
    await new Promise((resolve, reject) => {
      socket.addEventListener("connect", resolve, { once: true });
      socket.addEventListener("connect_error", ({ detail }) => reject(new Error(detail.data?.detail ?? detail.message)), { once: true });
      socket.connect();
    });
    this.#note("connect", "");
    return socket;
  }

  #note(name, text) {
    this.#heard.prepend(element("li", {}, element("code", {}, name), text ? codeBlock(shown(text, LONGEST_SHOWN)) : null));
    while (this.#heard.childElementCount > MOST_HEARD) this.#heard.lastElementChild.remove();
  }
}
