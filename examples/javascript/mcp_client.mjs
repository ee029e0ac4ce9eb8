// A client of Open-AutoGLM's own protocol, MCP 1.0, for Node.js without dependencies. See README.md.
//
// A Client keeps one connection: it opens it with the first request, another when the server drains or the socket is
// cut. A request is sent once. Only what was asked for as resumable goes on over a new connection, where the server
// kept it.

import { randomBytes } from "node:crypto";

import { Connection, lost } from "./mcp_connection.mjs";
import { CODECS, FLAG, McpError, OP, U32_MAX, broken, decodeText, encodeBody, encodeRequest } from "./mcp_frames.mjs";

export { McpError };

const GRACE_MS = 1000; // the server's own deadline_exceeded says more than ours: it may come a little late
const KEPT_MS = 60_000; // how long a server keeps what can be resumed
const RESUME_PAUSES_MS = [0, 100, 200, 400, 800, 1600, 3200];
const HANDLES_MAX = 8; // connections in a row that brought a call no further
const ALTERNATIVES_MAX = 4;
const TIMEOUT_MAX_MS = 24 * 3600 * 1000;
const WINDOW_MIN_BYTES = 65_536;
const WINDOW_MAX_BYTES = 2 ** 31 - 1;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** `mcp://host:port`, `mcps://host:port` for TLS (http and https mean the same), `unix:/path`. */
function parseAddress(text) {
  if (text.startsWith("unix:")) return { path: text.slice("unix:".length) };
  const found = /^(mcps?|https?):\/\/(\[[^\]]+\]|[^:/]+)(?::(\d+))?\/?$/.exec(text);
  if (!found) throw broken(`${text} is no address`);
  return { secure: found[1].endsWith("s"), host: found[2].replace(/^\[|\]$/g, ""), port: Number(found[3] ?? 8080) };
}

/** A request and what has come of it: on a connection, between two of them, or ended. */
class Call {
  link = null; // {connection, stream, credit}: where it is now
  handles = []; // [{token, stream}], newest first: what it can be resumed by
  nextChunk = 0;
  answer = null;
  error = null;
  ended = false;
  #queue = []; // chunks not read yet: {chunk, bytes, link}
  #taken = 0; // bytes read that the server has not been given back
  #wake = null;

  /** `owner` has resume(call, cause) and onEnded(call). */
  constructor(owner, request, { timeoutMs, resumable, signal }) {
    this.owner = owner;
    this.request = request;
    this.resumable = resumable;
    this.deadline = performance.now() + timeoutMs;
    const late = () => this.abort(new McpError("deadline_exceeded", 504, `no answer within ${timeoutMs} ms`));
    this.timer = setTimeout(late, timeoutMs + GRACE_MS);
    this.signal = signal;
    this.onAbort = () => this.abort(new McpError("client_closed", 499, "the request was aborted"));
    signal?.addEventListener("abort", this.onAbort);
  }

  /** Milliseconds for the frame: never 0, which would say that there is no deadline. */
  get remainingMs() {
    return Math.min(Math.max(Math.ceil(this.deadline - performance.now()), 1), U32_MAX);
  }

  /** Go onto a connection; `asked` is the handle that a RESUME asks for. */
  on(connection, frame, asked = null) {
    const stream = connection.begin(this, frame);
    const token = connection.welcome.resume;
    const handle = this.resumable && token ? { token, stream } : null;
    this.link = { connection, stream, credit: connection.options.window, handle, asked };
    this.#taken = 0;
    if (handle) this.handles.unshift(handle);
  }

  onChunk(frame) {
    if (frame.arg !== this.nextChunk) throw broken(`chunk ${frame.arg} came instead of ${this.nextChunk}`);
    this.link.credit -= frame.payload.length;
    if (this.link.credit < 0) throw broken("a chunk is longer than the credit");
    this.handles = this.link.handle ? [this.link.handle] : []; // the server has it here, and nowhere else any more
    this.nextChunk += 1;
    if (frame.payload.length === 0) return; // costs no credit, so that any number of them could wait
    const reasoning = (frame.flags & FLAG.REASONING) !== 0;
    const chunk = { text: decodeText(frame.payload), choice: frame.aux, reasoning };
    this.#queue.push({ chunk, bytes: frame.payload.length, link: this.link });
    this.#stir();
  }

  onResponse({ chunks, preamble, body }) {
    if (chunks !== this.nextChunk) {
      throw new McpError("stream_interrupted", 502, `${this.nextChunk} of ${chunks} chunks have come`);
    }
    const { text = "", reasoning = "", tool_calls: toolCalls = [], x_mcp_failover: failover = null } = body;
    this.answer = { text, reasoning, toolCalls, failover, ...preamble };
    this.end(null);
  }

  onError(error) {
    const { handle, asked } = this.link;
    if (error.status === 410 && asked) {
      // Where a RESUME before was cut itself, perhaps the server never saw that one: look further back.
      this.handles = this.handles.filter((one) => one !== handle && one !== asked);
      if (this.handles.length > 0) return this.owner.resume(this, error);
    }
    return this.end(error);
  }

  onClosed(error) {
    this.link = null;
    const kept = this.handles.length > 0 && this.handles.length <= HANDLES_MAX;
    const goesOn = kept && !error.goodbye && error.code !== "client_closed";
    if (goesOn) this.owner.resume(this, error);
    else this.end(error);
  }

  abort(error) {
    if (this.ended) return;
    this.link?.connection.cancel(this.link.stream);
    this.#queue.length = 0;
    this.end(error);
  }

  end(error) {
    if (this.ended) return;
    this.ended = true;
    this.error = error;
    clearTimeout(this.timer);
    this.signal?.removeEventListener("abort", this.onAbort);
    this.owner.onEnded(this);
    this.#stir();
  }

  #stir() {
    this.#wake?.();
    this.#wake = null;
  }

  /** The next chunk, or null when the answer is whole; throws why it is not. */
  async read() {
    while (this.#queue.length === 0) {
      if (this.error) throw this.error;
      if (this.ended) return null;
      await new Promise((resolve) => (this.#wake = resolve));
    }
    const { chunk, bytes, link } = this.#queue.shift();
    if (link === this.link) this.#giveBack(bytes); // else its connection is gone, and the new one's credit is whole
    return chunk;
  }

  #giveBack(bytes) {
    this.#taken += bytes;
    if (this.#taken < this.link.connection.options.window / 2) return;
    this.link.credit += this.#taken;
    this.link.connection.credit(this.link.stream, this.#taken);
    this.#taken = 0;
  }
}

/** An answer in pieces: iterate over `{text, choice, reasoning}`; `answer` is there when that has ended well. */
export class Stream {
  #call;

  constructor(call) {
    this.#call = call;
  }

  get answer() {
    return this.#call.answer;
  }

  /** Stop it: the model stops too. The iteration throws `client_closed`. */
  cancel() {
    this.#call.abort(new McpError("client_closed", 499, "the request was cancelled"));
  }

  async *[Symbol.asyncIterator]() {
    try {
      for (let chunk = await this.#call.read(); chunk; chunk = await this.#call.read()) yield chunk;
    } finally {
      this.cancel(); // a reader that leaves early; nothing where the answer has ended
    }
  }
}

export class Client {
  #address;
  #options;
  #opening = null; // a promise of the connection that takes new requests
  #current = null; // that connection, once it is open
  #connections = new Set(); // it, and those that drain
  #alternatives = [];
  #lostToken = "";
  #pending = new Set(); // calls
  #closed = false;

  /**
   * @param address see parseAddress; the port is 8080 when it is left out
   * @param options key; codecs, the best first; window: bytes of unread text per stream, 65,536 at least;
   *   requestsMax: requests at once, in all; timeoutMs: of each request; tls: as for node:tls (ca, cert, key …);
   *   agent: a name for the server's logs
   */
  constructor(address, options = {}) {
    this.#address = parseAddress(address);
    this.#options = {
      key: "", codecs: ["msgpack", "json"], window: 262_144, requestsMax: 1024, timeoutMs: 300_000, tls: {},
      agent: "mcp_client.mjs/1.0", ...options,
    };
    const { window, codecs } = this.#options;
    if (!(window >= WINDOW_MIN_BYTES && window <= WINDOW_MAX_BYTES)) throw broken("window is 65,536 to 2^31 - 1 bytes");
    if (!codecs.every((codec) => Object.hasOwn(CODECS, codec))) throw broken("codecs are msgpack and json");
  }

  /**
   * Ask, and wait for the whole answer: `{text, reasoning, toolCalls, model, version, finish, promptTokens, …}`.
   *
   * @param model its name; "" lets the server choose
   * @param body a text, or the fields of a chat completion (`messages` or `prompt`, `max_tokens`, …)
   * @param options timeoutMs; signal: an AbortSignal; session; priority 0 to 3; trace: 16 bytes; noRetry; resumable
   */
  async infer(model, body, options = {}) {
    const call = this.#call(model, body, options, 0);
    while (await call.read());
    return call.answer;
  }

  /** Ask for an answer in pieces; see Stream. The request is sent at once. */
  stream(model, body, options = {}) {
    return new Stream(this.#call(model, body, options, FLAG.STREAM));
  }

  /** End all: requests that run fail with `client_closed`. */
  close() {
    this.#closed = true;
    for (const connection of this.#connections) connection.close();
    for (const call of this.#pending) call.onAbort();
  }

  #call(model, body, options, stream) {
    const { session, priority, trace = randomBytes(16), noRetry = false, resumable = false, signal } = options;
    const { timeoutMs = this.#options.timeoutMs } = options;
    if (!(timeoutMs >= 1 && timeoutMs <= TIMEOUT_MAX_MS)) throw broken("timeoutMs is 1 to 86,400,000");
    const flags = stream | (noRetry && FLAG.NO_RETRY) | (resumable && FLAG.RESUMABLE);
    const request = { flags, preamble: encodeRequest({ model, session, priority, trace }) };
    request.body = typeof body === "string" ? { prompt: body } : body;
    const owner = { resume: (call, cause) => this.#resume(call, cause), onEnded: (call) => this.#pending.delete(call) };
    const call = new Call(owner, request, { timeoutMs, resumable, signal });
    if (this.#pending.size >= this.#options.requestsMax) {
      call.end(new McpError("overloaded", 503, `${this.#pending.size} requests are open`));
    } else if (signal?.aborted) call.onAbort();
    else {
      this.#pending.add(call);
      this.#begin(call).catch((error) => call.end(error));
    }
    return call;
  }

  async #begin(call) {
    const connection = await this.#ready();
    if (call.ended) return;
    const { flags, preamble, body } = call.request;
    const payload = Buffer.concat([preamble, encodeBody(connection.codec, body)]);
    call.request = null; // it is not sent twice
    call.on(connection, { opcode: OP.INFER_REQUEST, flags, arg: call.remainingMs, payload });
  }

  /** Go on with a call whose connection was lost, over a new one; it ends with the cause when that cannot be. */
  #resume(call, cause) {
    this.#goOn(call, cause).catch((error) => call.end(error));
  }

  async #goOn(call, cause) {
    const until = Math.min(performance.now() + KEPT_MS, call.deadline);
    const [asked] = call.handles;
    let error = cause;
    for (const ms of RESUME_PAUSES_MS) {
      await pause(ms);
      if (call.ended || performance.now() > until) break;
      try {
        const connection = await this.#ready();
        if (call.ended) return;
        const payload = encodeBody(connection.codec, asked);
        call.on(connection, { opcode: OP.RESUME, arg: call.nextChunk, payload }, asked);
        return;
      } catch (failure) {
        error = failure;
        if (!failure.retryable) break;
      }
    }
    throw error;
  }

  /** The connection that takes new requests. */
  async #ready() {
    for (let tries = 0; tries < 3; tries += 1) {
      if (this.#closed) throw new McpError("client_closed", 499, "the client was closed");
      this.#opening ??= this.#open();
      const opening = this.#opening;
      const connection = await opening.catch((error) => {
        if (this.#opening === opening) this.#opening = null;
        throw error;
      });
      if (connection.state === "open") return connection; // else it was lost, or began to drain, in the meantime
    }
    throw lost("connections are lost as soon as they are open");
  }

  /** Connect to where a draining server pointed, else to the address. */
  async #open() {
    const { secure } = this.#address;
    const addresses = this.#alternatives.map((one) => ({ ...parseAddress(`mcp://${one}`), secure }));
    let failure = null;
    for (const address of [...addresses, this.#address]) {
      try {
        return await Connection.open(address, this.#options, this.#hooks(), this.#lostToken);
      } catch (error) {
        failure = error instanceof McpError ? error : lost(error.message);
      }
    }
    throw failure;
  }

  #hooks() {
    return {
      onOpen: (connection) => {
        this.#connections.add(connection);
        this.#current = connection;
        this.#lostToken = "";
        if (this.#closed) connection.close();
      },
      onDrain: (connection, alternatives) => {
        this.#leave(connection);
        this.#alternatives = alternatives.slice(0, ALTERNATIVES_MAX);
      },
      onUsedUp: (connection) => this.#leave(connection),
      onClosed: (connection) => {
        this.#connections.delete(connection);
        if (connection === this.#current) this.#lostToken = connection.welcome.resume ?? "";
        this.#leave(connection);
      },
    };
  }

  /** New requests go over another connection. */
  #leave(connection) {
    if (connection !== this.#current) return;
    this.#current = null;
    this.#opening = null;
  }
}
