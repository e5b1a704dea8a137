/** The login session of this tab: keeps its tokens and renews them before they expire. */

import { callApi } from "./http.js";

const STORAGE_KEY = "madang.session";
const CHANNEL = "madang.session";
const MAX_TIMER = 2 ** 31 - 1;
const RETRY_DELAY = 5_000;
// A share of the token's lifetime, minus a random part, so that two tabs of one session do not renew at once.
const RENEW_AT = 0.7;
const RENEW_SPREAD = 0.15;

/**
 * Events: `renewed` (there is a new access token), `ended` (no longer signed in).
 * A refresh token is exchanged once. A duplicated tab starts with a copy of it, so tabs tell each other of the new pair.
 */
export class Session extends EventTarget {
  #tokens = null;
  #renewing = null;
  #timer = 0;
  #channel = new BroadcastChannel(CHANNEL);

  constructor() {
    super();
    this.#channel.addEventListener("message", ({ data }) => {
      if (this.#tokens && data.spent === this.#tokens.refreshToken) this.#keep(data.tokens);
    });
    const stored = sessionStorage.getItem(STORAGE_KEY);
    if (stored) this.#keep(JSON.parse(stored));
  }

  /** The signed-in user, or null. */
  get user() {
    return this.#tokens?.user ?? null;
  }

  async signIn(email, password) {
    this.#receive(await callApi("POST", "/auth/login", { body: { email, password } }));
  }

  async register(fields) {
    this.#receive(await callApi("POST", "/auth/register", { body: fields }));
  }

  async signOut() {
    const token = this.#tokens?.accessToken;
    this.#end();
    // Signed out here whatever the server says; its session ends with the refresh token at the latest.
    if (token) await callApi("POST", "/auth/logout", { token }).catch(() => {});
  }

  /** An access token that still lives, renewed if need be. Rejects with an `ApiError`. */
  async token() {
    if (this.#tokens && Date.now() >= this.#tokens.renewAt) await this.renew();
    return this.#tokens?.accessToken ?? "";
  }

  /** Exchange the refresh token; callers at the same time share one exchange. */
  renew() {
    this.#renewing ??= this.#exchange().finally(() => (this.#renewing = null));
    return this.#renewing;
  }

  async #exchange() {
    const spent = this.#tokens?.refreshToken;
    // Locks exist on secure pages only; without them the spread of the timers has to do.
    const locked = navigator.locks ? (work) => navigator.locks.request(CHANNEL, work) : (work) => work();
    await locked(async () => {
      if (!spent || this.#tokens?.refreshToken !== spent) return;
      try {
        const answer = await callApi("POST", "/auth/refresh", { body: { refreshToken: spent } });
        if (this.#tokens?.refreshToken !== spent) return;
        this.#receive(answer);
        this.#channel.postMessage({ spent, tokens: this.#tokens });
        // The other tabs hear of the new pair before the lock lets them try the old one.
        await new Promise((resolve) => setTimeout(resolve, 100));
      } catch (error) {
        if (!error.isPassing) this.#end();
        throw error;
      }
    });
  }

  #receive({ user, accessToken, refreshToken, expiresIn }) {
    const share = RENEW_AT - Math.random() * RENEW_SPREAD;
    this.#keep({ user, accessToken, refreshToken, renewAt: Date.now() + expiresIn * 1000 * share });
  }

  #keep(tokens) {
    this.#tokens = tokens;
    sessionStorage.setItem(STORAGE_KEY, JSON.stringify(tokens));
    this.#renewAfter(Math.max(0, tokens.renewAt - Date.now()));
    this.dispatchEvent(new Event("renewed"));
  }

  #renewAfter(delay) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => this.renew().catch((error) => error.isPassing && this.#renewAfter(RETRY_DELAY)),
      Math.min(delay, MAX_TIMER),
    );
  }

  #end() {
    if (!this.#tokens) return;
    clearTimeout(this.#timer);
    this.#tokens = null;
    sessionStorage.removeItem(STORAGE_KEY);
    this.dispatchEvent(new Event("ended"));
  }
}
