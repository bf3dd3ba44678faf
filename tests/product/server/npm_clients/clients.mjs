// Clients that know nothing of Backplane, driven by lines of JSON: commands in, and what happens to each client out.
import { createInterface } from "node:readline";
import { EventSource } from "eventsource";
import WebSocket from "ws";

const AGAIN_MS = 50;
const sources = new Map();

function say(client, what) {
  process.stdout.write(JSON.stringify({ client, ...what }) + "\n");
}

function stream({ client, url, token }) {
  const authorized = (input, init) =>
    fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } });
  const source = new EventSource(url, { fetch: authorized });
  source.onopen = () => say(client, { opened: true });
  source.onmessage = ({ data, lastEventId }) => say(client, { event: JSON.parse(data), id: lastEventId });
  for (const name of ["gap", "closed", "caughtup"])
    source.addEventListener(name, ({ data }) => say(client, { [name]: JSON.parse(data) }));
  source.onerror = ({ code }) => say(client, { ended: code ?? null, state: source.readyState });
  sources.set(client, source);
}

// `ws` does not come back by itself: this is the loop that everybody writes around it.
function socket({ client, url, token }) {
  const made = new WebSocket(url, { headers: { Authorization: `Bearer ${token}` } });
  made.on("open", () => say(client, { opened: true }));
  made.on("message", (data, isBinary) => say(client, { event: JSON.parse(data.toString()), isBinary }));
  made.on("error", (error) => say(client, { error: error.message }));
  made.on("close", (code, reason) => {
    say(client, { closed: code, reason: reason.toString() });
    if (code < 4000) setTimeout(() => socket({ client, url, token }), AGAIN_MS);
  });
}

const commands = { stream, socket, close: ({ client }) => sources.get(client).close() };

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const command = JSON.parse(line);
  commands[command.do](command);
});
lines.on("close", () => process.exit(0));
say(null, { ready: true });
