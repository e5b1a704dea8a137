/** The page without a session: signing in, or making an account. */

import { fieldName, fieldSentence } from "../words.js";

const MODES = {
  signIn: {
    fields: ["email", "password"],
    hint: "Sign in to your chats.",
    submit: "Sign in",
    other: "Make an account",
    autocomplete: "current-password",
  },
  register: {
    fields: ["firstName", "lastName", "email", "password"],
    hint: "Make an account to begin.",
    submit: "Make the account",
    other: "I have an account",
    autocomplete: "new-password",
  },
};

export class SignInView {
  #session;
  #onDone;
  #registration;
  #form = document.querySelector("#sign-in form");
  #mode = "signIn";
  /** The token of the link by which somebody came, where one is needed. */
  #invite = null;

  /** `registration` is who may make an account: `open`, `invite` or `closed`. */
  constructor(session, { registration, onDone }) {
    this.#session = session;
    this.#registration = registration;
    this.#onDone = onDone;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#form.addEventListener("input", ({ target }) => this.#tell(target, ""));
    this.#part("other").addEventListener("click", () => this.#enter(this.#mode === "signIn" ? "register" : "signIn"));
  }

  begin() {
    document.getElementById("sign-in").hidden = false;
    const registration = this.#registration;
    this.#invite = registration === "invite" ? new URLSearchParams(location.hash.slice(1)).get("invite") : null;
    this.#part("other").hidden = registration === "closed" || (registration === "invite" && !this.#invite);
    this.#enter(this.#invite ? "register" : "signIn");
  }

  #enter(mode) {
    this.#mode = mode;
    const { hint, submit, other, autocomplete } = MODES[mode];
    this.#part("hint").textContent = hint;
    this.#part("submit").textContent = submit;
    this.#part("other").textContent = other;
    this.#clear();
    this.#form.elements.password.autocomplete = autocomplete;
    this.#part("names").hidden = mode === "signIn";
    this.#form.elements[mode === "signIn" ? "email" : "firstName"].focus();
  }

  async #submit() {
    this.#clear();
    const { firstName, lastName, email, password } = Object.fromEntries(new FormData(this.#form));
    const fields = MODES[this.#mode].fields.map((name) => this.#form.elements[name]);
    for (const field of fields) if (!field.value.trim()) this.#tell(field, `${fieldName(field.name)} is missing.`);
    if (this.#goToFirst(fields)) return;
    const button = this.#part("submit");
    button.disabled = true;
    try {
      if (this.#mode === "signIn") await this.#session.signIn(email, password);
      else await this.#session.register({ firstName, lastName, email, password, invite: this.#invite ?? undefined });
      this.#form.reset();
      this.#onDone();
    } catch (error) {
      for (const one of error.errors) {
        const field = fields.find(({ name }) => name === one.path);
        if (field) this.#tell(field, fieldSentence(one));
        else this.#part("error").textContent = fieldSentence(one);
      }
      if (this.#goToFirst(fields)) return;
      this.#part("error").textContent = error.message;
      this.#form.elements.password.focus();
    } finally {
      button.disabled = false;
    }
  }

  /** Show the error of a field beside it; an empty text removes it. */
  #tell(field, words) {
    document.getElementById(`${field.name}-error`).textContent = words;
    field.setAttribute("aria-invalid", String(words !== ""));
  }

  #clear() {
    this.#part("error").textContent = "";
    for (const name of MODES.register.fields) this.#tell(this.#form.elements[name], "");
  }

  /** Put the cursor into the first field with an error; returns whether there is one. */
  #goToFirst(fields) {
    const wrong = fields.find((field) => field.getAttribute("aria-invalid") === "true");
    wrong?.focus();
    return Boolean(wrong);
  }

  #part(name) {
    return this.#form.querySelector(`[data-part=${name}]`);
  }
}
