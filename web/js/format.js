/** Words for times, people and files, and which addresses may become links. */

const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const WEEKDAY = new Intl.DateTimeFormat("en-GB", { weekday: "long" });
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric" });
const SHORT_DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const DAY = 86_400_000;
const HUES = 8;
const UPLOAD_PATH = /^(\/uploads\/[0-9a-f]+)\.\w+$/;
const WEB_ADDRESS = /https?:\/\/[^\s<>"']+/g;
const SENTENCE_END = ".,:;!?)]}";

export function timeOfDay(iso) {
  return TIME.format(new Date(iso));
}

/** `Today`, `Yesterday`, the weekday within a week, else the date. */
export function dayOf(iso) {
  const days = daysAgo(iso);
  if (days <= 0) return "Today";
  if (days === 1) return "Yesterday";
  return days < 7 ? WEEKDAY.format(new Date(iso)) : DATE.format(new Date(iso));
}

/** The time today, else the day, short enough for the edge of a list. */
export function shortMoment(iso) {
  const days = daysAgo(iso);
  if (days <= 0) return timeOfDay(iso);
  return days === 1 ? "Yesterday" : SHORT_DATE.format(new Date(iso));
}

export function lastSeen(iso) {
  if (!iso) return "offline";
  const day = dayOf(iso);
  return `last seen ${day === "Today" ? "at" : `${day.toLowerCase()} at`} ${timeOfDay(iso)}`;
}

/** Up to two initials of a name; one if a letter is a syllable. */
export function initials(name) {
  const words = name.trim().split(/\s+/).filter(Boolean);
  if (words.length === 0) return "?";
  const first = Array.from(words[0])[0];
  if (/[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]/.test(first) || words.length === 1) return first.toUpperCase();
  return (first + Array.from(words.at(-1))[0]).toUpperCase();
}

/** One of the colours, always the same for the same person. */
export function hueOf(id) {
  let sum = 0;
  for (const character of id) sum = (sum * 31 + character.codePointAt(0)) % 9973;
  return sum % HUES;
}

/** What a message says in one line. */
export function preview(text, type) {
  if (type === "IMAGE") return text ? `Picture: ${text}` : "Picture";
  if (type === "FILE") return text ? `File: ${text}` : "File";
  // Only a deleted message has no text and no attachment.
  return text === "" ? "This message was deleted" : (text ?? "No messages yet");
}

/** The address of an attachment or image; null if it is neither this server's nor http(s). */
export function safeAddress(address) {
  if (!address || !URL.canParse(address, location.origin)) return null;
  const url = new URL(address, location.origin);
  return ["http:", "https:"].includes(url.protocol) ? url : null;
}

/** Where to look for a picture, the smallest first: an upload has a small copy, which is a JPEG, or WebP if it is clear in parts. */
export function pictureSources(address) {
  const upload = address.origin === location.origin && UPLOAD_PATH.exec(address.pathname);
  return upload ? [`${upload[1]}-thumb.jpg`, `${upload[1]}-thumb.webp`, address.href] : [address.href];
}

/** The text in parts: `{text}` and `{text, href}`. */
export function splitLinks(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(WEB_ADDRESS)) {
    const address = withoutSentenceEnd(match[0]);
    if (match.index > end) parts.push({ text: text.slice(end, match.index) });
    parts.push({ text: address, href: safeAddress(address)?.href });
    end = match.index + address.length;
  }
  if (end < text.length) parts.push({ text: text.slice(end) });
  return parts;
}

/** A closing bracket belongs to the address only if it was opened in it. */
function withoutSentenceEnd(address) {
  let unopened = address.split(")").length - address.split("(").length;
  let end = address.length;
  while (SENTENCE_END.includes(address[end - 1])) {
    if (address[end - 1] === ")" && unopened-- <= 0) break;
    end -= 1;
  }
  return address.slice(0, end);
}

function daysAgo(iso) {
  return Math.round((startOfDay(new Date()) - startOfDay(new Date(iso))) / DAY);
}

function startOfDay(date) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}
