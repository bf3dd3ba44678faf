// Clients of the Pusher protocol, driven by lines of JSON: commands in, and what happens to each client out.
import { createInterface } from "node:readline";
import Echo from "laravel-echo";
import Pusher from "pusher-js";

const clients = new Map();

function say(client, what) {
  process.stdout.write(JSON.stringify({ client, ...what }) + "\n");
}

function open({ client, port, key, auth }) {
  const pusher = new Pusher(key, {
    cluster: "",
    wsHost: "127.0.0.1",
    wsPort: port,
    forceTLS: false,
    enabledTransports: ["ws"],
    disableStats: true,
    channelAuthorization: { endpoint: `${auth}/channel`, params: { user: client } },
    userAuthentication: { endpoint: `${auth}/user`, params: { user: client } },
  });
  pusher.connection.bind("state_change", ({ current }) => say(client, { state: current }));
  pusher.connection.bind("error", (error) => say(client, { error: error?.data ?? error?.error?.data ?? null }));
  pusher.connection.bind("connected", () => say(client, { socket: pusher.connection.socket_id }));
  const echo = new Echo({ broadcaster: "pusher", client: pusher, withoutInterceptors: true });
  clients.set(client, { pusher, echo });
}

function subscribe(client, { pusher }, name) {
  pusher.subscribe(name).bind_global((event, data) => {
    const members = event === "pusher:subscription_succeeded" && name.startsWith("presence-");
    say(client, { channel: name, event, data: members ? { ids: Object.keys(data.members), me: data.me } : data });
  });
}

function join(client, { echo }, name) {
  const ids = (members) => members.map((member) => member.id).sort();
  echo
    .join(name)
    .here((members) => say(client, { here: ids(members) }))
    .joining((member) => say(client, { joining: member.id }))
    .leaving((member) => say(client, { leaving: member.id }))
    .listen(".hello", (data) => say(client, { heard: data }))
    .listenForWhisper("typing", (data) => say(client, { whisper: data }));
}

const commands = {
  open,
  subscribe: ({ client, channel }) => subscribe(client, clients.get(client), channel),
  unsubscribe: ({ client, channel }) => clients.get(client).pusher.unsubscribe(channel),
  trigger: ({ client, channel, event, data }) => clients.get(client).pusher.channel(channel).trigger(event, data),
  listen: ({ client, channel, event }) =>
    clients.get(client).echo.channel(channel).listen(event, (data) => say(client, { heard: data })),
  join: ({ client, channel }) => join(client, clients.get(client), channel),
  whisper: ({ client, channel, data }) => clients.get(client).echo.join(channel).whisper("typing", data),
  signin: ({ client }) => {
    const { pusher } = clients.get(client);
    pusher.user.bind_global((event, data) => say(client, { user: event, data }));
    pusher.signin();
  },
  close: ({ client }) => clients.get(client).pusher.disconnect(),
};

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const command = JSON.parse(line);
  commands[command.do](command);
});
lines.on("close", () => process.exit(0));
say(null, { ready: true });
