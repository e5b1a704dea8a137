/** Where one writes: text, one attachment, Enter to send; drafts are kept for each room while the page is open. */

import { element, icon } from "../dom.js";

const MAX_HEIGHT = 160;

export class ComposerView {
  #api;
  #chat = null;
  #roomId = null;
  #drafts = new Map();
  #attachment = null;
  #uploading = null;
  /** The message that is answered or edited: `{message, isEdit}`. */
  #about = null;
  #form = document.getElementById("composer");
  #text = document.getElementById("text");
  #file = document.getElementById("file");
  #shown = document.getElementById("attachment");
  #aboutShown = document.getElementById("about");
  #error = document.getElementById("composer-error");
  #send = document.getElementById("send");

  constructor(api) {
    this.#api = api;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener("input", () => this.#onInput());
    this.#text.addEventListener("keydown", (event) => this.#onKey(event));
    this.#text.addEventListener("paste", (event) => this.#takeFile(event, event.clipboardData));
    const room = document.getElementById("room");
    room.addEventListener("dragover", (event) => event.preventDefault());
    room.addEventListener("drop", (event) => this.#takeFile(event, event.dataTransfer));
    document.getElementById("attach").addEventListener("click", () => this.#file.click());
    this.#file.addEventListener("change", () => {
      const [file] = this.#file.files;
      if (file) this.#upload(file);
      this.#file.value = "";
    });
  }

  begin(chat) {
    this.#chat = chat;
    this.#roomId = null;
    this.#drafts.clear();
  }

  show(roomId) {
    if (this.#roomId) this.#drafts.set(this.#roomId, this.#about?.isEdit ? "" : this.#text.value);
    if (this.#about?.isEdit) this.#about = null;
    this.#roomId = roomId;
    this.#text.value = this.#drafts.get(roomId) ?? "";
    this.#drop();
    this.#dropAbout();
  }

  focus() {
    this.#text.focus();
  }

  showError(words) {
    this.#error.textContent = words;
  }

  /** The next message answers this one. */
  reply(message) {
    this.#setAbout({ message, isEdit: false }, `Reply to ${message.senderName}: `);
  }

  /** The text of this message is written anew. */
  edit(message) {
    this.#drop();
    this.#setAbout({ message, isEdit: true }, "Edit: ");
    this.#text.value = message.content;
    this.#fit();
  }

  #setAbout(about, words) {
    if (this.#about?.isEdit) this.#text.value = "";
    this.#about = about;
    this.#aboutShown.hidden = false;
    this.#aboutShown.replaceChildren(
      element("span", { class: "said", dir: "auto" }, words + (about.message.content || "attachment")),
      element(
        "button",
        { type: "button", class: "round", "aria-label": "Cancel", onclick: () => this.#dropAbout() },
        icon("close"),
      ),
    );
    this.#text.focus();
  }

  #dropAbout() {
    if (this.#about?.isEdit) this.#text.value = "";
    this.#about = null;
    this.#aboutShown.hidden = true;
    this.#aboutShown.replaceChildren();
    this.#fit();
  }

  #onInput() {
    this.#fit();
    if (this.#text.value.trim()) this.#chat.typing.note(this.#roomId);
    else this.#chat.typing.stop();
  }

  #onKey(event) {
    if (event.key === "Escape" && this.#about) this.#dropAbout();
    // While a Korean syllable is being composed, Enter ends the syllable and not the message.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    this.#submit();
  }

  async #submitEdit() {
    const { message } = this.#about;
    try {
      await this.#chat.edit(message, this.#text.value);
      if (this.#about?.message === message) this.#dropAbout();
      this.#error.textContent = "";
    } catch (error) {
      this.#error.textContent = error.message;
    }
  }

  #submit() {
    if (this.#about?.isEdit) {
      if (this.#text.value.trim()) this.#submitEdit();
      return;
    }
    if (this.#uploading || (!this.#text.value.trim() && !this.#attachment)) return;
    // The file name is the only description that the receiver gets.
    const nameless = this.#attachment?.type === "FILE" && !this.#text.value.trim();
    const content = nameless ? this.#attachment.fileName : this.#text.value;
    const { messageId, senderName, content: answered, type } = this.#about?.message ?? {};
    const replyTo = messageId && { messageId, senderName, content: answered, type };
    this.#chat.send(this.#roomId, content.trim() ? content : "", this.#attachment, replyTo);
    this.#text.value = "";
    this.#drop();
    this.#dropAbout();
    this.#text.focus();
  }

  #takeFile(event, transfer) {
    const [file] = transfer?.files ?? [];
    if (!file) return;
    event.preventDefault();
    this.#upload(file);
  }

  async #upload(file) {
    this.#drop();
    const cancel = new AbortController();
    this.#uploading = cancel;
    const progress = element("progress", { max: "1", value: "0", "aria-label": "Sent so far" });
    this.#showAttachment(file.name, progress);
    this.#update();
    try {
      const attachment = await this.#api.upload(file, (share) => (progress.value = share), cancel.signal);
      if (this.#uploading !== cancel) return;
      this.#uploading = null;
      this.#attachment = attachment;
      this.#showAttachment(attachment.fileName, null, attachment.type === "IMAGE" && (attachment.thumbnailUrl ?? attachment.fileUrl));
      this.#text.focus();
    } catch (error) {
      if (this.#uploading !== cancel) return;
      this.#drop();
      this.#error.textContent = `${file.name}: ${error.message}`;
    }
    this.#update();
  }

  #showAttachment(name, progress, picture) {
    this.#shown.hidden = false;
    this.#shown.replaceChildren(
      picture ? element("img", { src: picture, alt: "" }) : icon("file"),
      element("span", { class: "said", dir: "auto" }, name),
      progress ?? "",
      element(
        "button",
        { type: "button", class: "round", "aria-label": "Remove the attachment", onclick: () => this.#drop() },
        icon("close"),
      ),
    );
  }

  #drop() {
    this.#uploading?.abort();
    this.#uploading = null;
    this.#attachment = null;
    this.#error.textContent = "";
    this.#shown.hidden = true;
    this.#shown.replaceChildren();
    this.#update();
  }

  #fit() {
    this.#text.style.height = "auto";
    this.#text.style.height = `${Math.min(this.#text.scrollHeight, MAX_HEIGHT)}px`;
    this.#update();
  }

  #update() {
    this.#send.disabled = this.#uploading !== null || (!this.#text.value.trim() && !this.#attachment);
  }
}
