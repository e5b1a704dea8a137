/** The lines of a conversation: messages, those on their way, and the days between them. */

import { element, icon } from "../dom.js";
import { dayOf, pictureSources, safeAddress, splitLinks, timeOfDay } from "../format.js";
import { actionsMenu, reactionChips } from "./actions.js";

const TICK_WORDS = { waiting: "Waiting to be sent", sent: "Sent", delivered: "Delivered", read: "Read" };
// Messages of one person within this time stand together.
const GROUP_MS = 5 * 60_000;
const QUOTED_KINDS = { IMAGE: "Picture", FILE: "File" };
export const UNREAD_KEY = "unread";

/** What `reconcile` needs to show a room: `{key, signature, create}` for each line. `unreadSeq` is where new ones begin. */
export function conversationLines(room, pending, me, { unreadSeq, isGroup, mayDelete, fileNames, pictures, actions, onRetry }) {
  const lines = [];
  let previous = null;
  let lastDay = null;
  const add = (message, key, state) => {
    const moment = new Date(message.timestamp);
    const day = dayOf(message.timestamp);
    if (day !== lastDay) {
      lastDay = day;
      lines.push({ key: `day:${message.timestamp.slice(0, 10)}:${day}`, signature: day, create: () => divider(day) });
      previous = null;
    }
    if (unreadSeq && message.seq === unreadSeq) {
      lines.push({ key: UNREAD_KEY, signature: "", create: () => divider("New messages", "unread") });
      previous = null;
    }
    if (message.type === "NOTICE") {
      lines.push({ key, signature: "", create: () => divider(message.content) });
      previous = null;
      return;
    }
    const isDeleted = Boolean(message.deletedAt);
    const follows = previous?.senderId === message.senderId && moment - new Date(previous.timestamp) < GROUP_MS;
    const isMine = message.senderId === me.id;
    const address = safeAddress(message.attachmentUrl);
    const fileName = address && message.type === "FILE" ? fileNames.known(address) : null;
    lines.push({
      key,
      signature: JSON.stringify([state, follows, message.error ?? null, fileName, message.rev ?? 0, message.replyTo ?? null]),
      create: () => messageLine(message, { state, isDeleted, follows, isMine, isGroup, mayDelete, address, fileName, fileNames, pictures, actions, onRetry }),
    });
    previous = message;
  };
  for (const message of room.messages) {
    const isMine = message.senderId === me.id;
    // The line of a message on its way stays the same element when it is stored.
    const key = isMine && message.clientMessageId ? `own:${message.clientMessageId}` : message.messageId;
    add(message, key, isMine && !message.deletedAt ? room.tickOf(message) : "");
  }
  for (const entry of pending) {
    const { clientMessageId, content, attachmentUrl, messageType, replyTo, createdAt, error, state } = entry;
    const shown = { content, attachmentUrl, type: messageType, replyTo, timestamp: createdAt };
    const message = { senderId: me.id, ...shown, clientMessageId, error };
    add(message, `own:${clientMessageId}`, state);
  }
  if (room.isLoaded && lines.length === 0) {
    lines.push({ key: "none", signature: "", create: () => divider("No messages yet.") });
  }
  return lines;
}

function divider(words, kind) {
  return element("p", { class: kind ? `divider ${kind}` : "divider" }, element("span", {}, words));
}

function messageLine(message, { state, isDeleted, follows, isMine, isGroup, mayDelete, address, fileName, fileNames, pictures, actions, onRetry }) {
  const classes = ["message", isMine ? "mine" : "theirs", follows && "follows", state === "failed" && "failed"];
  return element(
    "article",
    { class: classes.filter(Boolean).join(" "), "aria-label": isMine ? "You" : message.senderName },
    isGroup && !isMine && !follows && element("p", { class: "sender", dir: "auto" }, message.senderName),
    message.forwardedFrom && element("p", { class: "note", dir: "auto" }, `Forwarded from ${message.forwardedFrom.senderName}`),
    message.replyTo && quote(message.replyTo),
    isDeleted && element("p", { class: "content deleted" }, "This message was deleted"),
    address && attachment(message.type, address, fileName, fileNames, pictures),
    // A file sent without other words carries its name as its content, for the list of chats.
    message.content && message.content !== fileName && element("p", { class: "content", dir: "auto" }, ...contentNodes(message.content)),
    element(
      "p",
      { class: "meta" },
      message.pinnedAt && element("span", {}, "Pinned · "),
      message.editedAt && element("span", {}, "Edited · "),
      element("time", { datetime: message.timestamp }, timeOfDay(message.timestamp)),
      TICK_WORDS[state] && element("span", { class: `tick ${state}` }, icon(state, TICK_WORDS[state])),
    ),
    message.reactions && reactionChips(message, actions),
    message.seq && !isDeleted && actionsMenu(message, { isMine, mayDelete }, actions),
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

/** The beginning of the message that this one answers. */
function quote({ senderName, content, type, deletedAt }) {
  const words = deletedAt ? "This message was deleted" : content || QUOTED_KINDS[type] || "";
  return element(
    "blockquote",
    { class: "quote" },
    element("strong", { dir: "auto" }, senderName),
    element("span", { dir: "auto" }, words),
  );
}

function contentNodes(text) {
  return splitLinks(text).map((part) =>
    part.href ? element("a", { href: part.href, target: "_blank", rel: "noopener noreferrer nofollow" }, part.text) : part.text,
  );
}

function attachment(type, address, fileName, fileNames, pictures) {
  const link = { href: address.href, target: "_blank", rel: "noopener noreferrer nofollow" };
  if (type === "IMAGE") {
    const show = () => element("a", { ...link, class: "picture" }, picture(address, fileNames));
    return pictures.mayLoad(address) ? show() : pictureOnClick(address, pictures, show);
  }
  const where = address.origin === location.origin ? "Download the file" : `${address.hostname}${address.pathname}`;
  return element("a", { ...link, class: "file" }, icon("file"), element("span", { dir: "auto" }, fileName ?? where));
}

function pictureOnClick(address, pictures, show) {
  const onclick = () => {
    pictures.want(address);
    const shown = show();
    button.replaceWith(shown);
    shown.focus();
  };
  const words = ["Load the picture from ", element("strong", { dir: "ltr" }, address.host)];
  const button = element("button", { type: "button", class: "remote", onclick }, icon("picture"), element("span", {}, ...words));
  return button;
}

/** The first of its forms that can be shown; what opens on a click is always the whole. */
function picture(address, fileNames) {
  const sources = pictureSources(address);
  const image = element("img", {
    src: sources.shift(),
    alt: "Picture",
    loading: "lazy",
    decoding: "async",
    referrerpolicy: "no-referrer",
  });
  image.addEventListener("load", async () => {
    const name = await fileNames.find(address);
    if (name) image.alt = `Picture: ${name}`;
  });
  image.addEventListener("error", () => {
    if (sources.length > 0) image.src = sources.shift();
    else image.replaceWith(icon("file"), " Picture (not available)");
  });
  return image;
}
