/** Which pictures may be loaded. Whoever loads one tells its host who looks, and when: those of other hosts wait for a click. */

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

  /** Somebody has clicked. It holds until the page is loaded again. */
  want(address) {
    this.#wanted.add(address.href);
  }

  /** The address of a person's picture; null where there is none that may be loaded. */
  ofPerson(image) {
    const address = safeAddress(image);
    return address && this.mayLoad(address) ? address : null;
  }
}

/** As the server has it; where it does not say, nothing is loaded. */
export async function readPictures() {
  try {
    const answer = await fetch(SETTINGS, { signal: AbortSignal.timeout(PATIENCE) });
    const { loadRemoteImages } = await answer.json();
    return new Pictures(loadRemoteImages === true);
  } catch {
    return new Pictures(false);
  }
}
