// Events of a Backplane service in a web page: a WebSocket, or server-sent events where that does not get through.
//
//   import { connect } from "/events/backplane.js";
//   const events = connect("/events", {
//     onEvent: (event) => show(event),         // the JSON value that was published
//     onGap: (gap) => reload(),                // events may be missing: load the state anew
//     onState: (state, why) => badge(state),   // "connecting", "live", "stale", "closed"; why the server ended it
//   });
//   events.subscribe("room:42");
//
// It comes back by itself, after a random wait, until `close()`, or a close code that says not to (44xx). `why` is null,
// or the `code` and `reason` with which the server closed the socket or ended the stream. Where the bus keeps a log it
// then gets what it missed. So does a page that is loaded again, if it keeps `events.lastEventId` and passes it on:
// `connect("/events", { lastEventId, targets: ["room:42"], ... })`, with what it had subscribed to.
//
// With `token: async () => ...` it shows what that returns as it connects, and a fresh one before the old one expires, on
// the socket that is open. null: there is none any longer, which ends it. Streams can't show one: give them a cookie.

const FIRST_WAIT_S = 1; // doubles with each attempt that fails
const LONGEST_WAIT_S = 30;
const LIVED_S = 5; // a connection that brought nothing and ended sooner counts as one that failed
const SILENT_S = 25; // after so long without a message it asks for a sign of life
const ANSWER_S = 10; // and comes anew if none comes within this, or no answer to its handshake
const LONGEST_URL = 6000; // servers and proxies take 8 KiB
const LONGEST_TIMER_S = 86400; // browsers count to 24 days, and longer ones end at once
const SHORTEST_TOKEN_S = 1; // not more often than this, whatever the clock says
const RETRY_S = 5; // until a token that could not be had is asked for again; the old one is still good
const ATTEMPTS = 3; // sockets in a row that did not open, until it tries streams as well

export function connect(url, options = {}) {
  return new Client(url, options);
}

class Client {
  constructor(url, options) {
    const { onEvent, onGap, onState, sse = null, random = Math.random, protocols = [] } = options;
    const { lastEventId = null, targets = [], token = null } = options;
    this.onEvent = onEvent ?? (() => {});
    this.onGap = onGap ?? (() => {});
    this.onState = onState ?? (() => {});
    this.url = new URL(url, location.href);
    this.streamUrl = sse === null ? null : new URL(sse, location.href);
    this.random = random;
    this.protocols = protocols;
    this.token = token;
    this.attempt = null; // whom a token is for that is being waited for
    this.targets = new Set(targets);
    this.refused = new Set(); // those of them that the server did not allow
    this.state = null;
    this.lastEventId = lastEventId; // where a bus that keeps a log goes on
    this.resuming = new Set(); // "socket", "stream": the servers of these said that they do
    this.wasOpen = false;
    this.way = "socket"; // the one that opened last
    this.failures = 0;
    this.isClosed = false;
    this.enter("connecting");
    this.open();
  }

  // Get the events of another target, if the server allows it; again after each reconnect.
  subscribe(target) {
    this.targets.add(target);
    this.say({ backplane: "subscribe", target });
  }

  unsubscribe(target) {
    this.targets.delete(target);
    this.refused.delete(target);
    this.say({ backplane: "unsubscribe", target });
  }

  close() {
    this.isClosed = true;
    this.release();
    this.enter("closed");
  }

  // Try what got through last; where that fails again and again, the other one too: a network, or a proxy, may let
  // through what it did not before.
  open() {
    if (this.isClosed) return;
    if (this.streamUrl === null) this.ways = ["socket"];
    else if (typeof WebSocket === "undefined") this.ways = ["stream"];
    else if (this.way === "stream") this.ways = ["stream", "socket"];
    else this.ways = this.failures < ATTEMPTS ? ["socket"] : ["socket", "stream"];
    this.openNext();
  }

  openNext() {
    if (this.ways.shift() === "socket") this.openSocket();
    else this.openStream();
  }

  // One way did not get through: try the other one at once, or both again later.
  failed() {
    if (this.ways.length === 0) this.comeBack();
    else {
      this.release();
      this.openNext();
    }
  }

  openSocket() {
    if (this.token === null) {
      this.dial(this.protocols);
      return;
    }
    this.expectAnswer();
    this.askToken(
      (token) => this.dial(["bearer", token, ...this.protocols]),
      () => this.failed(),
    );
  }

  // Ask the page for a token, unless the connection that it is for is gone by the time that it comes.
  askToken(onToken, onFailure) {
    const attempt = (this.attempt = {});
    const isFor = () => this.attempt === attempt;
    new Promise((resolve) => resolve(this.token())).then(
      (token) => {
        if (!isFor()) return;
        if (token == null) this.give(4401, "there is no token");
        else onToken(token);
      },
      () => isFor() && onFailure(),
    );
  }

  // Before it expires, and not all pages in the same moment.
  renewIn(seconds) {
    clearTimeout(this.renewal);
    if (this.token === null || seconds === null) return;
    const wait = Math.max(SHORTEST_TOKEN_S, seconds * (0.7 + 0.2 * this.random()));
    this.renewal = setTimeout(() => this.renew(), Math.min(wait, LONGEST_TIMER_S) * 1000);
  }

  renew() {
    this.askToken(
      (token) => this.say({ backplane: "renew", token }),
      () => (this.renewal = setTimeout(() => this.renew(), RETRY_S * 1000)),
    );
  }

  dial(protocols) {
    const url = new URL(this.url);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("last-event-id", this.lastEventId ?? "");
    const short = url.href;
    for (const target of this.targets) if (!this.refused.has(target)) url.searchParams.append("subscribe", target);
    const isWhole = url.href.length <= LONGEST_URL;
    if (!isWhole) url.href = short;
    const socket = (this.socket = new WebSocket(url, protocols));
    let wasOpen = false;
    this.wasGranted = false;
    this.expectAnswer();
    socket.onopen = () => {
      wasOpen = true;
      this.opened("socket", isWhole);
      for (const target of this.targets) this.say({ backplane: "subscribe", target });
      if (this.token !== null) this.say({ backplane: "grant" });
      this.watch();
    };
    socket.onmessage = ({ data }) => {
      this.watch();
      this.take(JSON.parse(data));
    };
    socket.onclose = ({ code, reason }) => {
      if (this.socket !== socket) return;
      if (wasOpen) this.ended(code, reason);
      else this.failed();
    };
  }

  openStream() {
    const url = new URL(this.streamUrl);
    // One that the browser opens again sends it by itself, and newer.
    if (this.lastEventId !== null) url.searchParams.set("last-event-id", this.lastEventId);
    const stream = (this.stream = new EventSource(url, { withCredentials: true }));
    let wasOpen = false;
    let errors = 0;
    this.expectAnswer();
    stream.onopen = () => {
      wasOpen = true;
      errors = 0;
      clearTimeout(this.silence);
      this.wasGranted = this.token !== null;
      this.opened("stream", this.targets.size === 0); // it has no targets but those granted
    };
    stream.onmessage = ({ data, lastEventId }) => {
      this.lastEventId = lastEventId || this.lastEventId;
      this.take(JSON.parse(data));
    };
    stream.addEventListener("caughtup", ({ lastEventId }) => {
      this.resuming.add("stream");
      this.lastEventId = lastEventId || this.lastEventId;
    });
    stream.addEventListener("closed", ({ data }) => {
      const { code, reason } = JSON.parse(data);
      this.ended(code, reason);
    });
    stream.addEventListener("gap", ({ data }) => this.take(JSON.parse(data)));
    stream.onerror = () => {
      if (this.stream !== stream) return;
      errors += 1;
      // A browser gives a stream up for good at any status but 200, a proxy's 502 in a deploy too.
      if (!wasOpen) this.failed();
      else if (stream.readyState === EventSource.CLOSED || errors > ATTEMPTS) this.comeBack();
      else this.enter("connecting");
    };
  }

  opened(way, isWhole) {
    this.proof = setTimeout(() => (this.failures = 0), LIVED_S * 1000);
    this.way = way;
    this.enter("live");
    // What was published while it was away is missing, unless the server goes on where it was, or says what is missing.
    const isBack = this.wasOpen || this.lastEventId !== null;
    if ((this.wasOpen && !this.resuming.has(way)) || (isBack && !isWhole)) this.missed();
    this.wasOpen = true;
  }

  missed() {
    this.onGap({ cause: "disconnected", missed: null, open: false });
  }

  take(message) {
    this.failures = 0;
    if (message === null || typeof message !== "object" || !("backplane" in message)) {
      this.onEvent(message);
    } else if (message.backplane === "event") {
      this.lastEventId = message.id;
      this.onEvent(message.event);
    } else if (message.backplane === "caughtup") {
      this.lastEventId = message.id;
      if (message.id !== null) this.resuming.add("socket");
      else this.resuming.delete("socket"); // it keeps no log, and has said that events are missing
    } else if (message.backplane === "subscribed") {
      if (this.refused.delete(message.target)) this.missed(); // what came until now
    } else if (message.backplane === "refused") {
      if (this.targets.has(message.target)) this.refused.add(message.target);
    } else if (message.backplane === "granted") {
      this.wasGranted = this.token !== null;
      this.renewIn(message.expires_in_s);
    } else if (message.backplane === "gap") {
      this.enter(message.open ? "stale" : "live");
      this.onGap(message);
    } else if (message.backplane === "ping") {
      this.say({ backplane: "pong" });
    }
  }

  say(message) {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(message));
  }

  // A proxy may swallow what opens a socket or a stream.
  expectAnswer() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.failed(), ANSWER_S * 1000);
  }

  // A line that broke somewhere looks like one on which nothing happens.
  watch() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      this.say({ backplane: "ping" });
      this.silence = setTimeout(() => this.comeBack(), ANSWER_S * 1000);
    }, SILENT_S * 1000);
  }

  // The server ended it, or (1005, 1006) the line broke.
  ended(code, reason) {
    // A token that was good, and has expired: as after a night in which the machine slept.
    const isOutdated = code === 4401 && this.wasGranted;
    if (code >= 4400 && code < 4500 && !isOutdated) this.give(code, reason);
    else this.comeBack(code === 1005 || code === 1006 ? null : { code, reason });
  }

  comeBack(why = null) {
    this.release();
    if (this.isClosed) return;
    this.enter("connecting", why);
    const longest = Math.min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** this.failures);
    this.failures += 1;
    // Thousands of pages that lost the same server must not come back in the same moment.
    this.timer = setTimeout(() => this.open(), longest * (0.5 + this.random()) * 1000);
  }

  give(code, reason) {
    this.isClosed = true;
    this.release();
    this.enter("closed", { code, reason });
  }

  release() {
    clearTimeout(this.timer);
    clearTimeout(this.silence);
    clearTimeout(this.proof);
    clearTimeout(this.renewal);
    this.attempt = null;
    const { socket, stream } = this;
    this.socket = this.stream = undefined;
    socket?.close();
    stream?.close();
  }

  enter(state, why = null) {
    if (state !== this.state) {
      this.state = state;
      this.onState(state, why);
    }
  }
}
