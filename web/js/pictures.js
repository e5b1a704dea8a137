/** Which images may be loaded. Loading one tells its host who looks and when, so images of other hosts need a click. */

import { safeAddress } from "./format.js";


export class Pictures {
  #loadsRemote;
  #wanted = new Set();

  /** `loadsRemote`: the server's `web.load_remote_images`. */
  constructor(loadsRemote) {
    this.#loadsRemote = loadsRemote;
  }

  mayLoad(address) {
    return this.#loadsRemote || address.origin === location.origin || this.#wanted.has(address.href);
  }

  /** Allow images of other hosts until the page is reloaded. */
  want(address) {
    this.#wanted.add(address.href);
  }

  /** The address of a user's image; null if there is none that may be loaded. */
  ofPerson(image) {
    const address = safeAddress(image);
    return address && this.mayLoad(address) ? address : null;
  }
}
