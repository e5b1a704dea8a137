/** The round picture of a person: their own, or their initials on a colour. */

import { element } from "../dom.js";
import { hueOf, initials, safeAddress } from "../format.js";

/** Decoration only: the name always stands beside it. `isOnline` undefined shows no dot. */
export function avatar({ id, name, image, isOnline }) {
  const face = element("span", { class: `face hue-${hueOf(id)}` }, initials(name));
  const address = safeAddress(image);
  if (address) {
    const picture = element("img", { src: address.href, alt: "", referrerpolicy: "no-referrer" });
    picture.addEventListener("error", () => picture.remove());
    face.append(picture);
  }
  const dot = isOnline === undefined ? null : element("span", { class: isOnline ? "dot online" : "dot" });
  return element("span", { class: "avatar", "aria-hidden": "true" }, face, dot);
}
