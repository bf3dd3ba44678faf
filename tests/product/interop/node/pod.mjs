// A pod of another language, driven by lines of JSON: `node pod.mjs URL [KEY in hex ...]`. It knows origin, target and
// event, as a fleet does that was there before the Python pods; written from docs/reference/wire-format.md with the
// brokers' plain clients. With keys it signs with the first and takes what is signed with any: then its frames have seq,
// as they have once it beats.
//
// In: {"do":"attach","conn":"c1","targets":[["user","u1"]]}, {"do":"publish","events":[[["user","u1"],{...}],...]},
// {"do":"beat","name":"node-1"}, {"do":"counts"}, {"do":"stop"}. Out: an answer to each, and {"conn":"c1","event":...} for each event.

import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import { createInterface } from 'node:readline';

const CHANNEL = 'smooth-operator:backplane';
const SUBJECT = 'smooth-operator.backplane';
const TAGS = { connection: 'Connection', session: 'Session', user: 'User', org: 'Org', agent: 'Agent' };
const KNOWN = new Set(Object.values(TAGS));

const origin = `node-${randomUUID()}`;
const connections = new Map(); // "User u1" -> ids of connections
const counts = { sent: 0, own: 0, delivered: 0, nobody: 0, dropped: 0, beats: 0, refused: 0 };

const HEAD = /^(backplane-signed-1 ([0-9a-f]{16}) ([1-9][0-9]{9}) )([0-9a-f]{64})\n/;
const WINDOW_S = 300;
const hmac = (key, text) => createHmac('sha256', key).update(text).digest('hex');
const keys = new Map(); // KID -> key, the one that signs first
for (const key of process.argv.slice(3).map((hex) => Buffer.from(hex, 'hex'))) {
  keys.set(hmac(key, 'backplane key id').slice(0, 16), key);
}
const now = () => Math.floor(Date.now() / 1000);
const signature = (kid, start, frame) =>
  hmac(keys.get(kid), `${start}${Buffer.byteLength(CHANNEL)} ${CHANNEL}\n${frame}`);

function sign(frame) {
  const [kid] = keys.keys();
  const start = `backplane-signed-1 ${kid} ${now()} `;
  return `${start}${signature(kid, start, frame)}\n${frame}`;
}

// The plain frame, or null.
function verified(payload) {
  const [head, start, kid, at, sig] = HEAD.exec(payload) ?? [];
  if (!keys.has(kid)) return null;
  const frame = payload.slice(head.length);
  const wanted = Buffer.from(signature(kid, start, frame));
  if (!timingSafeEqual(wanted, Buffer.from(sig)) || Math.abs(now() - at) > WINDOW_S) return null;
  return frame;
}

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

function deliver(tag, id, event) {
  const ids = connections.get(`${tag} ${id}`) ?? [];
  for (const conn of ids) say({ conn, event });
  return ids.length > 0;
}

function hear(payload) {
  const plain = keys.size ? verified(payload) : payload;
  if (plain === null) {
    counts.refused += 1;
    return;
  }
  const frame = JSON.parse(plain);
  if (frame.origin === origin) {
    counts.own += 1;
    return;
  }
  const [tag, id] = typeof frame.target === 'string' ? [frame.target] : Object.entries(frame.target)[0];
  if (!KNOWN.has(tag)) {
    counts.dropped += 1;
    process.stderr.write(`dropped: ${tag}\n`);
    return;
  }
  counts[deliver(tag, id, frame.event) ? 'delivered' : 'nobody'] += 1;
  if (tag === 'Connection' && id === frame.origin && frame.event === null) counts.beats += 1;
}

async function overRedis(url) {
  const { createClient } = await import('redis');
  const fail = (error) => {
    process.stderr.write(`${error}\n`);
    process.exit(1);
  };
  const client = createClient({ url, socket: { reconnectStrategy: false } }).on('error', fail);
  const subscriber = client.duplicate().on('error', fail);
  await Promise.all([client.connect(), subscriber.connect()]);
  await subscriber.subscribe(CHANNEL, hear);
  return {
    send: (frames) => Promise.all(frames.map((frame) => client.publish(CHANNEL, frame))),
    close: async () => {
      await subscriber.close();
      await client.close();
    },
  };
}

async function overNats(url) {
  const { connect, StringCodec } = await import('nats');
  const connection = await connect({ servers: url, reconnect: false });
  const codec = StringCodec();
  connection.subscribe(SUBJECT, {
    callback: (error, message) => {
      if (error) throw error;
      hear(codec.decode(message.data));
    },
  });
  await connection.flush();
  return {
    send: (frames) => {
      for (const frame of frames) connection.publish(SUBJECT, codec.encode(frame));
      return connection.flush();
    },
    close: () => connection.close(),
  };
}

const url = process.argv[2];
let seq = 0;
let numbered = keys.size > 0;
function finished(frame) {
  if (!numbered) return JSON.stringify(frame);
  seq += 1;
  const text = JSON.stringify({ ...frame, seq, prev: seq - 1 });
  return keys.size ? sign(text) : text;
}
const bus = await (url.startsWith('nats:') ? overNats(url) : overRedis(url));
say({ state: 'live', origin });

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  if (command.do === 'stop') break;
  if (command.do === 'attach') {
    for (const [kind, id] of command.targets) {
      const key = `${TAGS[kind]} ${id}`;
      connections.set(key, [...(connections.get(key) ?? []), command.conn]);
    }
    say({ attached: command.conn });
  } else if (command.do === 'publish') {
    const frames = command.events.map(([[kind, id], event]) => {
      deliver(TAGS[kind], id, event);
      return finished({ origin, target: { [TAGS[kind]]: id }, event });
    });
    await bus.send(frames);
    counts.sent += frames.length;
    say({ published: frames.length });
  } else if (command.do === 'beat') {
    numbered = true;
    const beat = { origin, target: { Connection: origin }, event: null, pod: command.name, routing: 'broadcast', lanes: 1 };
    await bus.send([finished(beat)]);
    counts.sent += 1;
    say({ beat: command.name });
  } else if (command.do === 'counts') {
    say({ counts });
  }
}
await bus.close();
say({ state: 'closed' });
process.stdin.destroy(); // it would keep the process
