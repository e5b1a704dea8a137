/** Which images may be loaded. Loading one tells its host who looks and when, so images of other hosts need a click. */

import { safeAddress } from "./format.js";

const SETTINGS = "/web/settings.json";
const PATIENCE = 3_000;

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

/** The server's setting; off if it cannot be read. */
export async function readPictures() {
  try {
    const answer = await fetch(SETTINGS, { signal: AbortSignal.timeout(PATIENCE) });
    const { loadRemoteImages } = await answer.json();
    return new Pictures(loadRemoteImages === true);
  } catch {
    return new Pictures(false);
  }
}
