/** The lines of a conversation: messages, those on their way, and the days between them. */

import { element, icon } from "../dom.js";
import { dayOf, pictureSources, safeAddress, splitLinks, timeOfDay } from "../format.js";

const TICK_WORDS = { waiting: "Waiting to be sent", sent: "Sent", delivered: "Delivered", read: "Read" };
// Messages of one person within this time stand together.
const GROUP_MS = 5 * 60_000;
const LABEL_LENGTH = 120;

/** What `reconcile` needs to show a room: `{key, signature, create}` for each line. */
export function conversationLines(room, pending, me, onRetry) {
  const lines = [];
  let previous = null;
  const add = (message, key, state) => {
    const moment = new Date(message.timestamp);
    const day = dayOf(message.timestamp);
    if (!previous || dayOf(previous.timestamp) !== day) {
      lines.push({ key: `day:${message.timestamp.slice(0, 10)}:${day}`, signature: day, create: () => dayLine(day) });
      previous = null;
    }
    const follows = previous?.senderId === message.senderId && moment - new Date(previous.timestamp) < GROUP_MS;
    const isMine = message.senderId === me.id;
    lines.push({
      key,
      signature: JSON.stringify([state, follows, message.error ?? null]),
      create: () => messageLine(message, { state, follows, isMine, onRetry }),
    });
    previous = message;
  };
  for (const message of room.messages) {
    const isMine = message.senderId === me.id;
    // The line of a message on its way stays the same element when it is stored.
    const key = isMine && message.clientMessageId ? `own:${message.clientMessageId}` : message.messageId;
    add(message, key, isMine ? room.tickOf(message) : "");
  }
  for (const entry of pending) {
    const { clientMessageId, content, attachmentUrl, messageType, createdAt, error, state } = entry;
    const message = { senderId: me.id, content, attachmentUrl, type: messageType, timestamp: createdAt, clientMessageId, error };
    add(message, `own:${clientMessageId}`, state);
  }
  return lines;
}

function dayLine(day) {
  return element("p", { class: "day" }, element("span", {}, day));
}

function messageLine(message, { state, follows, isMine, onRetry }) {
  const classes = ["message", isMine ? "mine" : "theirs", follows && "follows", state === "failed" && "failed"];
  return element(
    "article",
    { class: classes.filter(Boolean).join(" "), "aria-label": isMine ? "You" : message.senderName },
    attachment(message),
    message.content && !isFileLabel(message) && element("p", { class: "content", dir: "auto" }, ...contentNodes(message.content)),
    element(
      "p",
      { class: "meta" },
      element("time", { datetime: message.timestamp }, timeOfDay(message.timestamp)),
      TICK_WORDS[state] && element("span", { class: `tick ${state}` }, icon(state, TICK_WORDS[state])),
    ),
    state === "failed" &&
      element(
        "p",
        { class: "error" },
        `Not sent: ${message.error} `,
        element("button", { type: "button", class: "plain", onclick: () => onRetry(message.clientMessageId) }, "Try again"),
        element("button", { type: "button", class: "plain", onclick: () => onRetry(message.clientMessageId, false) }, "Remove"),
      ),
  );
}

function contentNodes(text) {
  return splitLinks(text).map((part) =>
    part.href ? element("a", { href: part.href, target: "_blank", rel: "noopener noreferrer nofollow" }, part.text) : part.text,
  );
}

function attachment({ attachmentUrl, type, content }) {
  const address = safeAddress(attachmentUrl);
  if (!address) return null;
  const link = { href: address.href, target: "_blank", rel: "noopener noreferrer nofollow" };
  if (type === "IMAGE") return element("a", { ...link, class: "picture" }, picture(address));
  const where = address.origin === location.origin ? "Download the file" : `${address.hostname}${address.pathname}`;
  const label = isFileLabel({ type, content }) ? content : where;
  return element("a", { ...link, class: "file" }, icon("file"), element("span", { dir: "auto" }, label));
}

/** The first of its forms that can be shown; what opens on a click is always the whole. */
function picture(address) {
  const sources = pictureSources(address);
  const image = element("img", {
    src: sources.shift(),
    alt: "Picture",
    loading: "lazy",
    decoding: "async",
    referrerpolicy: "no-referrer",
  });
  image.addEventListener("error", () => {
    if (sources.length > 0) image.src = sources.shift();
    else image.replaceWith(icon("file"), " Picture (not available)");
  });
  return image;
}

/** A file sent without other words carries its name as its content. */
function isFileLabel({ type, content }) {
  return type === "FILE" && content.length > 0 && content.length <= LABEL_LENGTH && !content.includes("\n");
}
