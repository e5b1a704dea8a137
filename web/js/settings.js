/** What the server tells the page before anybody has signed in. */

const SETTINGS = "/web/settings.json";
const PATIENCE = 3_000;

/** `{loadRemoteImages, registration}`; the careful ones if they cannot be read. */
export async function readSettings() {
  try {
    const answer = await fetch(SETTINGS, { signal: AbortSignal.timeout(PATIENCE) });
    const { loadRemoteImages, registration } = await answer.json();
    return { loadRemoteImages: loadRemoteImages === true, registration: registration ?? "open" };
  } catch {
    return { loadRemoteImages: false, registration: "open" };
  }
}
