/** Runs situations with both clients at once. The test answers what they ask for, and causes the faults. */

import { official, ours } from "./clients.js";
import { SITUATIONS } from "./situations.js";

const DEADLINE = 90_000;
const PAUSES = { firstDelay: 100, maxDelay: 400, timeout: 30_000 };
const requests = [];
const answers = new Map();

/** Ask the test for something; resolves to its answer, or rejects where that never came about. */
function ask(what, parameters) {
  return new Promise((resolve, reject) => {
    const id = answers.size;
    answers.set(id, { resolve, reject });
    requests.push({ id, what, parameters });
  });
}

/** Each fault strikes once, when both clients have come to it. */
function faults(situation) {
  let waiting = [];
  return (name) =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      if (waiting.length < 2) return;
      const both = waiting;
      waiting = [];
      ask(name, { situation }).then(
        () => both.forEach((one) => one.resolve()),
        (error) => both.forEach((one) => one.reject(error)),
      );
    });
}

async function play(make, name, fault, { base, portal, pair }) {
  const clients = [];
  const stage = {
    ...pair,
    portal,
    fault,
    ask: (what, parameters) => ask(what, { ...parameters, situation: name }),
    client(options) {
      clients.push(make({ base, auth: () => ({ token: pair.token }), ...PAUSES, ...options }));
      return clients.at(-1);
    },
  };
  const late = new Promise((resolve) => setTimeout(resolve, DEADLINE, "NEVER ENDED"));
  const failure = await Promise.race([SITUATIONS[name](stage), late]).catch((error) => `FAILED: ${error.stack}`);
  const logs = clients.flatMap((client) => client.log);
  clients.forEach((client) => client.disconnect());
  return failure ? [...logs, failure] : logs;
}

window.takeRequests = () => requests.splice(0);
window.giveAnswer = (id, answer) => answers.get(id).resolve(answer);
window.giveFailure = (id, words) => answers.get(id).reject(new Error(words));
window.names = Object.keys(SITUATIONS);
/** `settings` are `{portal, pairs: [ours, official], bases: {situation: address}}`. */
window.run = async ({ portal, pairs, bases }) => {
  window.results = null;
  const results = {};
  const playBoth = async ([name, base]) => {
    const fault = faults(name);
    const [one, other] = await Promise.all(
      [ours, official].map((make, index) => play(make, name, fault, { base, portal, pair: pairs[index] })),
    );
    results[name] = { ours: one, official: other };
  };
  await Promise.all(Object.entries(bases).map(playBoth));
  window.results = results;
};
