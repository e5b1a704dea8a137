/** The page of the contract: reads both documents from this server and shows them. */

import { element } from "../dom.js";
import { callApi } from "../http.js";
import { Line, eventEntry, eventGroups } from "./events.js";
import { anchorOf, withCode } from "./parts.js";
import { restEntry, restGroups } from "./rest.js";
import { Schemas } from "./schema.js";

const who = document.getElementById("who");
const whoTries = () => who.elements.token.value.trim();

who.addEventListener("submit", async (event) => {
  event.preventDefault();
  const error = document.getElementById("who-error");
  error.textContent = "";
  try {
    const { email, password, token } = who.elements;
    const answer = await callApi("POST", "/auth/login", { body: { email: email.value, password: password.value } });
    token.value = answer.accessToken;
    password.value = "";
    document.getElementById("who-state").textContent = `Trying as ${answer.user.fullName}.`;
  } catch (problem) {
    error.textContent = problem.message;
  }
});

function group(title, entries) {
  return element("section", { class: "group", id: anchorOf(title) }, element("h2", {}, title), ...entries);
}

function contentsOf(groups) {
  const lines = groups.map(([title, entries]) =>
    element(
      "li",
      {},
      element("a", { href: `#${anchorOf(title)}` }, title),
      element("ul", {}, ...entries.map(({ id, name }) => element("li", {}, element("a", { href: `#${id}` }, name)))),
    ),
  );
  return element("ul", {}, ...lines);
}

/** Open what the address names: by a link of the contents, or of somebody else. */
function openNamed() {
  const entry = document.getElementById(location.hash.slice(1));
  if (!entry) return;
  if (entry.localName === "details") entry.open = true;
  entry.scrollIntoView();
}

async function show() {
  const [rest, sockets] = await Promise.all([callApi("GET", "/openapi.json"), callApi("GET", "/asyncapi.json")]);
  const restSchemas = new Schemas(rest);
  const socketSchemas = new Schemas(sockets);
  const line = new Line(whoTries);
  const ofRest = restGroups(rest);
  const ofSockets = eventGroups(sockets);
  document.getElementById("version").textContent = rest.info.version;
  document.getElementById("contract").replaceChildren(
    ...ofRest.map(([title, entries]) => group(title, entries.map((entry) => restEntry(entry, restSchemas, whoTries)))),
    element("section", { class: "group" }, element("h2", {}, "Sockets"), element("p", { class: "hint" }, ...withCode(sockets.channels.chat.description)), line.view),
    ...ofSockets.map(([title, entries]) => group(title, entries.map((entry) => eventEntry(entry, socketSchemas, line)))),
  );
  document.getElementById("contents").replaceChildren(
    contentsOf([
      ...ofRest.map(([title, entries]) => [title, entries.map(({ id, operation }) => ({ id, name: operation.summary }))]),
      ...ofSockets.map(([title, entries]) => [title, entries.map(({ id, message }) => ({ id, name: message.name }))]),
    ]),
  );
  window.addEventListener("hashchange", openNamed);
  openNamed();
}

show().catch((error) => {
  document.getElementById("contract").replaceChildren(element("p", { class: "error", role: "alert" }, error.message));
});
