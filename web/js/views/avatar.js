/** The round picture of a person: their own, or their initials on a colour. */

import { element } from "../dom.js";
import { hueOf, initials } from "../format.js";

/** Decoration only: the name always stands beside it. `picture` is an address or null; `isOnline` undefined shows no dot. */
export function avatar({ id, name, picture, isOnline }) {
  const face = element("span", { class: `face hue-${hueOf(id)}` }, initials(name));
  if (picture) {
    const image = element("img", { src: picture.href, alt: "", referrerpolicy: "no-referrer" });
    image.addEventListener("error", () => image.remove());
    face.append(image);
  }
  const dot = isOnline === undefined ? null : element("span", { class: isOnline ? "dot online" : "dot" });
  return element("span", { class: "avatar", "aria-hidden": "true" }, face, dot);
}
