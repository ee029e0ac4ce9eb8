// One connection that speaks MCP 1.0: the handshake, the streams on it, credit, heartbeat, and how it ends.
//
// | state    | new requests | leaves it by                                                          |
// |----------|--------------|-----------------------------------------------------------------------|
// | opening  | no           | WELCOME: open; anything else, or 10 s: closed                         |
// | open     | yes          | DRAIN: draining; GOODBYE, a cut, silence, a broken rule: closed       |
// | draining | no           | GOODBYE (the server's, when its last stream has ended), a cut: closed |
// | closed   | no           | never; every stream that was open has been told why                   |
//
// A call (see mcp_client.mjs) is on at most one connection; a connection holds no more calls than WELCOME allows, and
// of each no more unread text than the window that HELLO named.

import net from "node:net";
import tls from "node:tls";

import {
  FIRST_FRAME_BYTES_MAX, FLAG, FrameReader, McpError, OP, PREFACE, U32_MAX, broken, decodeBody, decodeResponse,
  encodeBody, encodeFrame,
} from "./mcp_frames.mjs";

const HANDSHAKE_MS = 10_000;
const JOINED = new Set([OP.INFER_RESPONSE, OP.ERROR]); // may come in fragments

export const lost = (message) => new McpError("connection_lost", 0, message, { retryable: true });

const isLoopback = (host) => host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);

/** What HELLO says. */
function hello({ codecs, key, window, agent }, resume) {
  const auth = key ? { key } : {};
  return { versions: ["1.0"], codecs, auth, window, agent, ...(resume && { resume }) };
}

function dial({ host, port, path, secure }, options) {
  if (options.key && !secure && !path && !isLoopback(host)) {
    throw broken("a key is sent as it is: only over TLS, over a Unix socket or to this machine");
  }
  if (path) return net.connect({ path });
  const servername = net.isIP(host) ? {} : { servername: host };
  return secure ? tls.connect({ host, port, ...servername, ...options.tls }) : net.connect({ host, port });
}

export class Connection {
  /**
   * Connect and shake hands; resolves when WELCOME has come, rejects with McpError.
   * `hooks`: onOpen, onDrain (with alternatives), onUsedUp (no stream is left) and onClosed, each with the connection;
   * `resume` is the token of the connection that this one replaces.
   */
  static open(address, options, hooks, resume = "") {
    return new Promise((resolve, reject) => {
      const connection = new Connection(address, options, hooks);
      connection.opened = { resolve, reject };
      connection.#send({ opcode: OP.HELLO, payload: encodeBody("json", hello(options, resume)) }, PREFACE);
    });
  }

  state = "opening";
  welcome = null;
  calls = new Map(); // stream -> call
  #reader = new FrameReader(FIRST_FRAME_BYTES_MAX);
  #fragments = new Map(); // stream -> {opcode, parts, bytes}
  #fragmentBytes = 0;
  #stream = 1;
  #heardAt = performance.now();
  #pinged = false;

  constructor(address, options, hooks) {
    this.options = options;
    this.hooks = hooks;
    this.socket = dial(address, options);
    this.socket.setNoDelay(true);
    this.socket.on("data", (block) => this.#heard(block));
    this.socket.on("error", (error) => this.#close(lost(error.message || error.code)));
    this.socket.on("close", () => this.#close(lost("the connection was cut")));
    this.timer = setTimeout(() => this.#close(lost("no WELCOME in time")), HANDSHAKE_MS);
  }

  get codec() {
    return this.welcome.codec;
  }

  #refuse(payload) {
    if (this.state !== "open") throw new McpError("server_draining", 503, "the connection takes no new requests");
    if (payload.length > this.welcome.message_bytes_max) {
      throw new McpError("request_too_large", 413, `${payload.length} bytes are too many`);
    }
    if (this.calls.size >= this.welcome.requests_max) {
      throw new McpError("overloaded", 503, `${this.calls.size} requests are open`);
    }
    if (this.socket.writableLength > this.welcome.message_bytes_max) {
      throw new McpError("overloaded", 503, "the server reads slower than requests come");
    }
  }

  /** Open a stream for a call with one message, in as many frames as it takes; its number, or throws McpError. */
  begin(call, { opcode, flags = 0, arg = 0, payload }) {
    this.#refuse(payload);
    const stream = this.#stream;
    this.#stream += 2;
    if (this.#stream > U32_MAX) this.hooks.onUsedUp(this);
    this.calls.set(stream, call);
    const step = this.welcome.frame_bytes_max;
    for (let at = 0; at === 0 || at < payload.length; at += step) {
      const more = at + step < payload.length ? FLAG.MORE : 0;
      this.#send({ opcode, flags: flags | more, stream, arg, payload: payload.subarray(at, at + step) });
    }
    return stream;
  }

  /** The stream is not wanted any more. What is on its way is ignored. */
  cancel(stream) {
    if (this.calls.has(stream)) {
      this.#send({ opcode: OP.CANCEL, stream });
      this.calls.delete(stream);
    }
  }

  /** Give credit back for text that the reader has taken. */
  credit(stream, bytes) {
    if (bytes > 0 && this.calls.has(stream)) this.#send({ opcode: OP.WINDOW, stream, arg: bytes });
  }

  /** End it in order. */
  close() {
    this.#goodbye(new McpError("client_closed", 499, "the client was closed"));
  }

  #send(frame, before) {
    if (this.state === "closed") return;
    const bytes = encodeFrame(frame);
    this.socket.write(before ? Buffer.concat([before, bytes]) : bytes);
  }

  #goodbye(error) {
    if (this.state !== "opening") {
      const body = encodeBody(this.codec, { code: error.code, message: error.message });
      this.#send({ opcode: OP.GOODBYE, aux: error.status, payload: body });
    }
    this.#close(error);
  }

  /** The end, whoever began it: everything that waits here is told why. */
  #close(error) {
    if (this.state === "closed") return;
    const opening = this.state === "opening";
    this.state = "closed";
    clearTimeout(this.timer);
    this.socket.end();
    setTimeout(() => this.socket.destroy(), 1000).unref(); // a peer that does not close its side
    if (opening) this.opened.reject(error);
    const calls = [...this.calls.values()];
    this.calls.clear();
    this.#fragments.clear();
    if (this.welcome) this.hooks.onClosed(this);
    for (const call of calls) call.onClosed(error);
  }

  #heard(block) {
    this.#heardAt = performance.now();
    this.#pinged = false;
    try {
      for (const frame of this.#reader.read(block)) {
        if (this.state === "closed") return;
        this.#take(frame);
      }
    } catch (error) {
      if (!(error instanceof McpError)) throw error;
      this.#goodbye(error);
    }
  }

  #take(frame) {
    if (this.state === "opening") return this.#begun(frame);
    const message = JOINED.has(frame.opcode) ? this.#joined(frame) : frame;
    if (!message) return undefined;
    switch (message.opcode) {
      case OP.PING: return this.#send({ opcode: OP.PONG, arg: message.arg });
      case OP.DRAIN: return this.#drained(decodeBody(this.codec, message.payload));
      case OP.GOODBYE: return this.#close(this.#goodbyeError(message));
      case OP.INFER_CHUNK: return this.calls.get(message.stream)?.onChunk(message);
      case OP.INFER_RESPONSE: return this.#answered(message, (call) => call.onResponse(this.#response(message)));
      case OP.ERROR: return this.#answered(message, (call) => call.onError(this.#error(message)));
      default: return undefined; // PONG has been heard; what a later version adds is ignored
    }
  }

  #begun(frame) {
    if (frame.opcode === OP.GOODBYE) return this.#close(this.#goodbyeError(frame));
    if (frame.opcode !== OP.WELCOME) throw broken("no WELCOME");
    const welcome = decodeBody("json", frame.payload);
    const numbers = [welcome.frame_bytes_max, welcome.message_bytes_max, welcome.requests_max, welcome.heartbeat_ms];
    const offered = welcome.version === "1.0" && this.options.codecs.includes(welcome.codec);
    if (!offered || !numbers.every((number) => number >= 1)) throw broken("a WELCOME that does not fit HELLO");
    this.welcome = welcome;
    this.#reader.frameBytesMax = this.welcome.frame_bytes_max;
    this.state = "open";
    clearTimeout(this.timer);
    this.timer = setInterval(() => this.#watch(), this.welcome.heartbeat_ms / 4);
    this.hooks.onOpen(this);
    return this.opened.resolve(this);
  }

  /** Ask after a heartbeat without a byte; give up after two. */
  #watch() {
    const silentMs = performance.now() - this.#heardAt;
    if (silentMs >= 2 * this.welcome.heartbeat_ms) {
      this.#goodbye(new McpError("request_timeout", 408, "nothing was heard from the server", { retryable: true }));
    } else if (silentMs >= this.welcome.heartbeat_ms && !this.#pinged) {
      this.#pinged = true;
      this.#send({ opcode: OP.PING, arg: Math.floor(Math.random() * U32_MAX) });
    }
  }

  #drained({ alternatives = [] }) {
    if (this.state !== "open") return;
    this.state = "draining";
    this.hooks.onDrain(this, alternatives);
  }

  /** The whole message when its last fragment has come, else null. Flags, aux and arg are the last one's. */
  #joined(frame) {
    const begun = this.#fragments.get(frame.stream);
    if (begun && begun.opcode !== frame.opcode) throw broken("another message within the fragments of one");
    const more = frame.flags & FLAG.MORE;
    if (!begun && !more) return frame;
    const all = begun ?? { opcode: frame.opcode, parts: [], bytes: 0 };
    all.parts.push(frame.payload);
    all.bytes += frame.payload.length;
    this.#fragmentBytes += frame.payload.length;
    if (all.bytes > this.welcome.message_bytes_max || this.#fragmentBytes > 2 * this.welcome.message_bytes_max) {
      throw broken("a message that is too long", "request_too_large", 413);
    }
    if (more) {
      this.#fragments.set(frame.stream, all);
      return null;
    }
    this.#fragments.delete(frame.stream);
    this.#fragmentBytes -= all.bytes;
    return { ...frame, payload: Buffer.concat(all.parts) };
  }

  /** A stream's last frame: what cannot be read of it is that call's error, and no other's. */
  #answered(message, tell) {
    const call = this.calls.get(message.stream);
    if (!call) return; // it was cancelled
    this.calls.delete(message.stream);
    try {
      tell(call);
    } catch (error) {
      if (!(error instanceof McpError)) throw error;
      call.onError(error);
    }
  }

  #response({ arg, payload }) {
    const { bodyAt, ...preamble } = decodeResponse(payload);
    return { chunks: arg, preamble, body: decodeBody(this.codec, payload.subarray(bodyAt)) };
  }

  #error({ flags, aux, arg, payload }) {
    const body = decodeBody(this.codec, payload);
    const frame = { retryable: (flags & FLAG.RETRYABLE) !== 0, retry_after_ms: arg };
    return new McpError(body.code ?? "", aux, body.message, { ...body, ...frame });
  }

  #goodbyeError({ aux, payload }) {
    const body = decodeBody(this.welcome ? this.codec : "json", payload);
    return new McpError(body.code ?? "", aux, body.message, { goodbye: true });
  }
}
