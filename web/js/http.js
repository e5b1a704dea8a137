/** REST calls: one function, and the one error that everything in this client throws. */

import { sentenceOf } from "./words.js";

export const API = "/api/v1";
const PASSING_CODES = new Set(["OFFLINE", "TIMEOUT", "UNAVAILABLE", "RATE_LIMITED", "INTERNAL"]);

/**
 * What went wrong: the server's `code` and `errors`, or `OFFLINE` and `TIMEOUT`, which are this client's own. The
 * `message` is for people.
 */
export class ApiError extends Error {
  constructor({ code = "INTERNAL", status = 0, detail = "Something went wrong.", errors = [], retryAfter = null } = {}) {
    super(sentenceOf({ code, detail, errors }));
    this.code = code;
    this.status = status;
    this.errors = errors;
    this.retryAfter = retryAfter;
  }

  /** Whether the same call may succeed later. */
  get isPassing() {
    return PASSING_CODES.has(this.code);
  }
}

export function offlineError() {
  return new ApiError({ code: "OFFLINE", detail: "The server cannot be reached." });
}

/** Call the API. Resolves to the parsed answer (null for an empty one); rejects with an `ApiError`. */
export async function callApi(method, path, { body, token } = {}) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(API + path, { method, headers, body: JSON.stringify(body) });
  } catch {
    throw offlineError();
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new ApiError({ ...answer, status: response.status });
  return answer;
}

/**
 * Send a file. `onProgress` gets the sent share, 0 to 1; `signal` cancels.
 * It is an XMLHttpRequest because fetch does not tell how much of a body has been sent.
 */
export function sendFile(file, { token, onProgress, signal }) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("file", file);
    const request = new XMLHttpRequest();
    request.open("POST", `${API}/upload`);
    request.setRequestHeader("Authorization", `Bearer ${token}`);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      if (request.status === 201) resolve(request.response);
      else reject(new ApiError({ ...request.response, status: request.status }));
    });
    request.addEventListener("error", () => reject(offlineError()));
    request.addEventListener("abort", () => reject(offlineError()));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}
