/** The page without a session: signing in, or making an account. */

const MODES = {
  signIn: { hint: "Sign in to your chats.", submit: "Sign in", other: "Make an account", autocomplete: "current-password" },
  register: {
    hint: "Make an account to begin.",
    submit: "Make the account",
    other: "I have an account",
    autocomplete: "new-password",
  },
};

export class SignInView {
  #session;
  #onDone;
  #form = document.querySelector("#sign-in form");
  #mode = "signIn";

  constructor(session, { onDone }) {
    this.#session = session;
    this.#onDone = onDone;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#part("other").addEventListener("click", () => this.#enter(this.#mode === "signIn" ? "register" : "signIn"));
  }

  begin() {
    document.getElementById("sign-in").hidden = false;
    this.#enter("signIn");
  }

  #enter(mode) {
    this.#mode = mode;
    const { hint, submit, other, autocomplete } = MODES[mode];
    this.#part("hint").textContent = hint;
    this.#part("submit").textContent = submit;
    this.#part("other").textContent = other;
    this.#part("error").textContent = "";
    this.#form.elements.password.autocomplete = autocomplete;
    this.#part("names").hidden = mode === "signIn";
    this.#form.elements[mode === "signIn" ? "email" : "firstName"].focus();
  }

  async #submit() {
    const { firstName, lastName, email, password } = Object.fromEntries(new FormData(this.#form));
    const button = this.#part("submit");
    button.disabled = true;
    this.#part("error").textContent = "";
    try {
      if (this.#mode === "signIn") await this.#session.signIn(email, password);
      else await this.#session.register({ firstName, lastName, email, password });
      this.#form.reset();
      this.#onDone();
    } catch (error) {
      this.#part("error").textContent = error.message;
      const field = this.#form.elements[error.errors?.[0]?.path];
      (field ?? this.#form.elements.password).focus();
    } finally {
      button.disabled = false;
    }
  }

  #part(name) {
    return this.#form.querySelector(`[data-part=${name}]`);
  }
}
