/** What may happen to a client. Each is played by the page's own client and by npm's; the test compares their logs. */

const POLLING = { transports: ["polling"] };
const ANYBODY = { userIds: [] };
const LARGE = 10_000;
const STRANGE = "한 👩‍👩‍👧 \u202Eevil\u202C \u0001 \u001e \u2028 \\ \" é \ud83d\ude00 end";

const codeOf = (answer) => answer.error?.code ?? (answer.ok ? "ok" : answer);
const ping = async (client) => client.note(`answer ${codeOf(await client.call("presence:get", ANYBODY))}`);

async function connected(stage, options) {
  const client = stage.client(options);
  client.connect();
  await client.until("connect");
  return client;
}

/** It was lost, which it notices by itself, and comes back. */
async function back(client) {
  await client.until("connect", 2);
  client.forgetAttempts();
  await ping(client);
}

/** Until it has noticed, the fault goes on. */
async function lost(stage, options, fault, end) {
  const client = await connected(stage, options);
  await stage.fault(fault);
  await client.until("disconnect");
  if (end) await stage.fault(end);
  await back(client);
}

const echo = async (stage, options) => {
  const client = await connected(stage, options);
  const { roomId } = await stage.ask("room", { token: stage.token, otherToken: stage.otherToken });
  const answer = await client.call("message:send", { roomId, content: STRANGE });
  client.note(answer.message?.content === STRANGE ? "the same" : JSON.stringify(answer));
};

const large = async (stage, options) => {
  const client = await connected(stage, options);
  const { roomId } = await stage.ask("room", { token: stage.token, otherToken: stage.otherToken });
  const content = "한".repeat(LARGE);
  const sends = Array.from({ length: 20 }, () => client.call("message:send", { roomId, content }));
  client.note(`sent ${(await Promise.all(sends)).filter((answer) => answer.message?.content === content).length}`);
  const answer = await client.call("sync", { rooms: { [roomId]: 0 } });
  const { messages } = answer.rooms.find((room) => room.roomId === roomId);
  client.note(`read ${messages.filter((message) => message.content === content).length}`);
};

const goodbye = async (stage, options) => {
  const pair = await stage.ask("pair");
  const client = await connected(stage, { auth: () => ({ token: pair.token }), ...options });
  await stage.ask("isOnline", { ...pair, value: true });
  client.disconnect();
  await stage.ask("isOnline", { ...pair, value: false });
  client.note(`active ${client.isActive()}`);
};

/** What the server says when it stops is heard first. While it stops it may take somebody in once more. */
async function stopped(stage, options) {
  const hear = (name, payload) => name === "exception" && `exception ${payload.code}`;
  const client = await connected(stage, { ...options, hear });
  await stage.fault("stop");
  await client.until("disconnect");
  const log = client.log.slice(0, 3);
  await stage.fault("start");
  let answer;
  do {
    await new Promise((resolve) => setTimeout(resolve, 50));
    answer = codeOf(await client.call("presence:get", ANYBODY));
  } while (answer !== "ok");
  client.log = [...log, "back"];
}

export const SITUATIONS = {
  "connects, and is answered": async (stage) => ping(await connected(stage)),
  "polls, and is answered": async (stage) => ping(await connected(stage, POLLING)),

  "answers find their calls": async (stage) => {
    const client = await connected(stage);
    const ids = Array.from({ length: 30 }, (_, number) => `somebody-${number}`);
    const answers = await Promise.all(ids.map((id) => client.call("presence:get", { userIds: [id] })));
    client.note(`found ${answers.filter(({ presence }, number) => presence?.[0].userId === ids[number]).length}`);
  },

  "an unknown event": async (stage) => {
    const client = await connected(stage);
    client.note(codeOf(await client.call("no:such", {})));
  },

  "an answer that is late": async (stage) => {
    const client = await connected(stage);
    await stage.fault("stall");
    client.note(codeOf(await client.call("presence:get", ANYBODY, 200)));
    await stage.fault("heal");
    await ping(client);
  },

  "events come in order": async (stage) => {
    const { roomId } = await stage.ask("room", { token: stage.token, otherToken: stage.otherToken });
    const seqs = [];
    const hear = (name, message) => {
      if (name !== "message:new" || message.roomId !== roomId) return null;
      return seqs.push(message.seq) === 60 && "heard";
    };
    const client = await connected(stage, { hear });
    for (let number = 0; number < 60; number += 1) client.call("message:send", { roomId, content: `${number}` });
    await client.until("heard");
    client.note(`in order ${seqs.every((seq, index) => seq === index + 1)}`);
  },

  "the server's events are acknowledged": async (stage) => {
    const pair = await stage.ask("pair");
    await stage.ask("send", { ...pair, count: 3 });
    const hear = (name, messages) => name === "messages:offline" && `batch of ${messages.length}`;
    const client = await connected(stage, { ...POLLING, hear, auth: () => ({ token: pair.token }) });
    await client.until("batch");
    await stage.fault("acknowledged");
  },

  "a bad token": async (stage) => {
    const client = stage.client({ auth: () => ({ token: "nonsense" }) });
    client.connect();
    await client.until("connect_error");
    client.note(`active ${client.isActive()}`);
  },

  "no token, by polling": async (stage) => {
    const client = stage.client({ ...POLLING, auth: () => ({}) });
    client.connect();
    await client.until("connect_error");
    client.note(`active ${client.isActive()}`);
  },

  "a namespace that is not there": async (stage) => {
    const client = stage.client({ namespace: "/nowhere" });
    client.connect();
    await client.until("connect_error");
    // In which words is tested elsewhere.
    client.log = ["refused"];
    client.note(`active ${client.isActive()}`);
  },

  "another token at each attempt": async (stage) => {
    const tokens = [stage.token, "nonsense"];
    const client = await connected(stage, { auth: () => ({ token: tokens.shift() }) });
    await stage.fault("cut");
    await client.until("connect_error");
    client.note(`tokens left ${tokens.length}`);
  },

  "the server disconnects": async (stage) => {
    const pair = await stage.ask("pair");
    const client = await connected(stage, { auth: () => ({ token: pair.token }) });
    await stage.ask("logout", pair);
    await client.until("disconnect");
    client.note(`active ${client.isActive()}`);
  },

  "the server disconnects who polls": async (stage) => {
    const pair = await stage.ask("pair");
    const client = await connected(stage, { ...POLLING, auth: () => ({ token: pair.token }) });
    await stage.ask("logout", pair);
    await client.until("disconnect");
    client.note(`active ${client.isActive()}`);
  },

  "the client disconnects": (stage) => goodbye(stage),
  "the client that polls disconnects": (stage) => goodbye(stage, POLLING),

  "disconnects while it connects, and connects": async (stage) => {
    const client = stage.client();
    client.connect();
    client.disconnect();
    client.connect();
    await client.until("connect");
    await ping(client);
  },

  "a WebSocket that is cut": (stage) => lost(stage, {}, "cut"),
  "a network that is gone for a while": (stage) => lost(stage, {}, "refuse", "heal"),
  "a network that is gone for a while, polling": (stage) => lost(stage, POLLING, "refuse", "heal"),
  "a connection that is only half open": (stage) => lost(stage, {}, "stall", "heal"),
  "a connection that is only half open, polling": (stage) => lost(stage, POLLING, "stall", "heal"),
  "a session that the server does not know": (stage) => lost(stage, POLLING, "forget"),

  "WebSockets are refused": async (stage) => {
    await stage.fault("dropUpgrades");
    const client = await connected(stage);
    // npm's client may say so in between.
    client.forgetAttempts();
    await ping(client);
  },

  "WebSockets are never answered": async (stage) => {
    await stage.fault("swallowUpgrades");
    const client = stage.client({ timeout: 2_000 });
    client.connect();
    await Promise.race([client.until("connect"), client.until("connect_error", 5)]);
    client.log = [client.log.includes("connect") ? "connect" : "never connects"];
  },

  "a call while disconnected": async (stage) => {
    const client = await connected(stage);
    await stage.fault("refuse");
    await client.until("disconnect");
    const call = client.call("presence:get", ANYBODY).then((answer) => client.note(`answer ${codeOf(answer)}`));
    await stage.fault("heal");
    await client.until("connect", 2);
    await call;
    client.forgetAttempts();
  },

  "a call whose answer the cut took": async (stage) => {
    const client = await connected(stage);
    await stage.fault("stall");
    const call = client.call("presence:get", ANYBODY);
    await stage.fault("cut");
    client.note(codeOf(await call));
    await stage.fault("heal");
    await back(client);
  },

  "several cuts, one after the other": async (stage) => {
    const { roomId } = await stage.ask("room", { token: stage.token, otherToken: stage.otherToken });
    const hear = (name, message) => name === "message:new" && message.roomId === roomId && `heard ${message.content}`;
    const client = await connected(stage, { hear });
    for (let times = 2; times <= 5; times += 1) {
      await stage.fault("cut");
      await client.until("connect", times);
    }
    await client.call("message:send", { roomId, content: "one" });
    await client.call("message:send", { roomId, content: "two" });
    await client.until("heard two");
  },

  "pauses grow": async (stage) => {
    await stage.fault("refuse");
    const client = stage.client({ firstDelay: 80, maxDelay: 320 });
    const pauses = [];
    client.connect();
    for (let number = 1; number <= 4; number += 1) {
      const attempt = new Promise((resolve) => (client.onRetry = resolve));
      await client.until("connect_error", number);
      const failedAt = performance.now();
      await attempt;
      pauses.push(performance.now() - failedAt);
    }
    client.disconnect();
    // Half of 80, 160, 320, 320 ms at least; the clock may be a little coarse.
    const least = [40, 80, 160, 160];
    client.log = [];
    client.note(pauses.every((pause, index) => pause > least[index] - 5) ? "pauses grow" : JSON.stringify(pauses));
  },

  "something else answers": async (stage) => {
    const client = stage.client({ base: stage.portal });
    client.connect();
    await client.until("connect_error", 2);
    client.log = client.log.slice(0, 2);
    client.note(`active ${client.isActive()}`);
  },

  "strange characters": (stage) => echo(stage),
  "strange characters, polling": (stage) => echo(stage, POLLING),
  "large messages": (stage) => large(stage),
  "large messages, polling": (stage) => large(stage, POLLING),

  "bytes instead of text": async (stage) => {
    const client = await connected(stage);
    const payload = { roomId: "nowhere", content: new Uint8Array([1, 2, 3]) };
    client.note(codeOf(await client.call("message:send", payload)));
    await ping(client);
  },

  "more than the server takes": async (stage) => {
    const hear = (name, payload) => name === "exception" && `exception ${payload.code}`;
    const client = await connected(stage, { hear });
    client.call("message:send", { roomId: "nowhere", content: "x".repeat(200_000) });
    await client.until("disconnect");
    await back(client);
  },

  "the server stops and comes back": (stage) => stopped(stage),
  "the server stops and comes back, polling": (stage) => stopped(stage, POLLING),
  "the server is killed and comes back": (stage) => lost(stage, {}, "kill", "start"),
  "the server is killed and comes back, polling": (stage) => lost(stage, POLLING, "kill", "start"),
};
