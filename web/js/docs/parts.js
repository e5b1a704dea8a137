/** Small parts of the page of the contract. */

import { element } from "../dom.js";

/** A heading with its content; nothing if there is none. */
export function section(title, content) {
  return content ? element("section", { class: "part" }, element("h4", {}, title), content) : null;
}

export function codeBlock(text) {
  return element("pre", { tabindex: "0" }, element("code", {}, text));
}

/** JSON with one field a line; other text as it is; cut after `longest` characters. */
export function shown(text, longest) {
  let pretty = text;
  try {
    pretty = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // It is no JSON.
  }
  return pretty.length > longest ? `${pretty.slice(0, longest)}\n…` : pretty;
}

/** A text in which names of the code stand in backticks, as the nodes that show it. */
export function withCode(text) {
  return text.split("`").map((part, index) => (index % 2 === 1 ? element("code", {}, part) : part));
}

export function anchorOf(name) {
  return name.replaceAll(/[^A-Za-z0-9]+/g, "-");
}
