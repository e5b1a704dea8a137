/** The names that uploads had where they came from: the server tells them with the file, not with the message. */

const EXTENDED_NAME = /filename\*=UTF-8''([^;]+)/i;

export class FileNames {
  #asked = new Map();
  #known = new Map();
  #onChange;

  constructor(onChange) {
    this.#onChange = onChange;
  }

  /** The name, or null while it is not known: then it is asked for, and `onChange` is called when it comes. */
  known(address) {
    this.find(address).catch(() => {});
    return this.#known.get(address.href) ?? null;
  }

  /** Resolves to the name of an upload of this server; null if there is none. */
  find(address) {
    if (address.origin !== location.origin) return Promise.resolve(null);
    if (!this.#asked.has(address.href)) this.#asked.set(address.href, this.#ask(address));
    return this.#asked.get(address.href);
  }

  async #ask(address) {
    const answer = await fetch(address, { method: "HEAD" }).catch(() => null);
    if (!answer) this.#asked.delete(address.href);
    const found = answer?.ok && EXTENDED_NAME.exec(answer.headers.get("Content-Disposition") ?? "");
    if (!found) return null;
    const name = decodeURIComponent(found[1]);
    this.#known.set(address.href, name);
    this.#onChange();
    return name;
  }
}
