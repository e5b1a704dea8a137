/** Error texts for users of the page. The server's texts are for developers and name fields. */

const FIELD_NAMES = {
  firstName: "First name",
  lastName: "Last name",
  email: "Email",
  password: "Password",
  invite: "Your invitation",
  content: "The message",
  bookingId: "The booking id",
  q: "What you search for",
};
const BYTES = /(\d+) bytes/g;
const LONG_NUMBER = /\d{4,}/g;

/** The name of a field on this page; null for one that is not on it. */
export function fieldName(path) {
  return FIELD_NAMES[path] ?? null;
}

/** One sentence for the whole of an error of the server: its `{code, detail, errors}`. */
export function sentenceOf({ code, detail, errors = [] }) {
  const [first] = errors;
  if (first) return fieldSentence(first);
  if (code === "PAYLOAD_TOO_LARGE") return tooLarge(detail);
  return asSentence(detail);
}

/** One sentence for one entry of `errors`: "Password must have 8 to 1,024 characters." */
export function fieldSentence({ path, message }) {
  const name = fieldName(path);
  return asSentence(name ? `${name} ${message}` : message);
}

function tooLarge(detail) {
  // The server counts the whole request, which holds a little more than the file.
  if (detail.startsWith("The body")) return asSentence(detail.replace("The body may hold", "A file may have"));
  return /\d/.test(detail) ? asSentence(detail) : "The file is too large.";
}

function asSentence(text) {
  const plain = text
    .replace(BYTES, (_, bytes) => sizeOf(Number(bytes)))
    .replace(LONG_NUMBER, (number) => Number(number).toLocaleString("en-GB"));
  const sentence = plain.charAt(0).toUpperCase() + plain.slice(1);
  return /[.!?]$/.test(sentence) ? sentence : `${sentence}.`;
}

/** `100 MB`: in the unit that leaves a short number, and never more than there is. */
function sizeOf(bytes) {
  const [unit, name] = [[1_000_000, "MB"], [1_000, "KB"]].find(([size]) => bytes >= size) ?? [1, "bytes"];
  return `${Math.floor(bytes / unit)} ${name}`;
}
