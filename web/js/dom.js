/** Making and updating elements. Text only ever becomes text nodes and attributes: nothing here parses HTML. */

const SVG = "http://www.w3.org/2000/svg";

/** `element("p", {class: "note", onclick: f}, "text", node)`; children and attributes that are null or false are left out. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** One of the symbols of the page; with a `label` it speaks, without it is decoration. */
export function icon(name, label) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  if (label) {
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
  } else {
    svg.setAttribute("aria-hidden", "true");
  }
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/**
 * Make the children of `parent` those of `items`, in order. `items` are `{key, signature, create}`: an element whose
 * key and signature are the same stays as it is, so that focus, selection and loaded pictures stay too.
 */
export function reconcile(parent, items) {
  const focusedKey = document.activeElement?.closest("[data-key]")?.dataset.key;
  const focusedTag = document.activeElement?.localName;
  const hadFocus = parent.contains(document.activeElement);
  const existing = new Map(Array.from(parent.children, (child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const { key, signature, create } of items) {
    let node = existing.get(key);
    existing.delete(key);
    if (!node || node.dataset.signature !== signature) {
      const fresh = create();
      fresh.dataset.key = key;
      fresh.dataset.signature = signature;
      if (node && node === place) place = fresh;
      node?.replaceWith(fresh);
      node = fresh;
    }
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const gone of existing.values()) gone.remove();
  if (hadFocus && focusedKey && !parent.contains(document.activeElement)) {
    const again = parent.querySelector(`[data-key="${CSS.escape(focusedKey)}"]`);
    (again?.querySelector(focusedTag) ?? again?.querySelector("button, a") ?? again)?.focus({ preventScroll: true });
  }
}

/** Announce a text to screen readers. */
export function announce(text) {
  const region = document.getElementById("announcer");
  const line = element("p", {}, text);
  region.append(line);
  while (region.childElementCount > 5) region.firstElementChild.remove();
}
