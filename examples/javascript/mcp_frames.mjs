// The bytes of MCP 1.0: frames, the preambles of requests, answers and tensors, and bodies as JSON or MessagePack.
// Nothing here knows a socket. Written from docs/protocol.md; vectors.test.mjs holds it to docs/protocol/vectors.

import { decodeMessagePack, encodeMessagePack } from "./messagepack.mjs";

export const PREFACE = Buffer.from([0x00, 0x4d, 0x43, 0x50, 0x01, 0x00, 0x00, 0x00]);
export const HEADER_BYTES = 16;
export const FIRST_FRAME_BYTES_MAX = 65_536; // before WELCOME names another limit
export const U32_MAX = 0xffff_ffff;

export const OP = {
  HELLO: 1, WELCOME: 2, PING: 3, PONG: 4, WINDOW: 5, DRAIN: 6, RESUME: 7, GOODBYE: 8,
  INFER_REQUEST: 10, INFER_RESPONSE: 11, INFER_CHUNK: 12, CANCEL: 13, ERROR: 14,
};
export const FLAG = {
  STREAM: 0x01, MORE: 0x02, RESUMABLE: 0x04, NO_RETRY: 0x08,
  REASONING: 0x10, RETRYABLE: 0x20, LAST: 0x40, TENSORS: 0x80,
};
const FINISHES = ["", "stop", "length", "tool_calls", "content_filter"];
const TENSOR_TYPES = [
  "float32", "float16", "bfloat16", "float64", "int8", "int16", "int32", "int64", "uint8", "bool",
];
const RETRYABLE = new Set([
  "rate_limit_exceeded", "upstream_error", "stream_interrupted", "overloaded", "no_healthy_endpoint",
  "server_draining", "no_quorum", "deadline_exceeded",
]);

/** Why a request failed. `code` and `status` are those of the protocol's table; `connection_lost` (0) is our own. */
export class McpError extends Error {
  constructor(code, status, message, more = {}) {
    super(message || code);
    this.name = "McpError";
    this.code = code;
    this.status = status;
    this.retryable = more.retryable ?? RETRYABLE.has(code); // the same request may succeed when it is sent again
    this.retryAfterMs = more.retry_after_ms ?? 0; // 0: not known
    this.requestId = more.request_id ?? "";
    this.param = more.param ?? "";
    this.deliveredChars = more.delivered_chars ?? 0;
    this.goodbye = more.goodbye ?? false; // the server ended the connection with it
  }
}

/** What the other side must not send: it ends the connection. */
export const broken = (message, code = "invalid_request", status = 400) => new McpError(code, status, message);

// A byte order mark is a character like any other: taking it away would change the text.
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes as text; throws McpError where they are not UTF-8. */
export function decodeText(bytes) {
  try {
    return strict.decode(bytes);
  } catch {
    throw broken("a text is not UTF-8");
  }
}

/** Text as bytes; throws McpError for half of a surrogate pair, which Node.js would replace without a word. */
export function encodeText(text) {
  if (/\p{Surrogate}/u.test(text)) throw broken("a text holds half of a character");
  return Buffer.from(text, "utf-8");
}

export function encodeFrame({ opcode, flags = 0, aux = 0, stream = 0, arg = 0, payload = Buffer.alloc(0) }) {
  const header = Buffer.allocUnsafe(HEADER_BYTES);
  header.writeUInt32BE(payload.length, 0);
  header.writeUInt8(opcode, 4);
  header.writeUInt8(flags, 5);
  header.writeUInt16BE(aux, 6);
  header.writeUInt32BE(stream, 8);
  header.writeUInt32BE(arg, 12);
  return Buffer.concat([header, payload]);
}

/** Frames out of blocks of bytes, however they are cut. A frame that is too long is refused by its header. */
export class FrameReader {
  #blocks = [];
  #bytes = 0;
  #wanted = HEADER_BYTES; // joining blocks before as many are there would cost the square of them

  constructor(frameBytesMax = FIRST_FRAME_BYTES_MAX) {
    this.frameBytesMax = frameBytesMax;
  }

  get heldBytes() {
    return this.#bytes;
  }

  *read(block) {
    this.#blocks.push(block);
    this.#bytes += block.length;
    while (this.#bytes >= this.#wanted) {
      const bytes = this.#blocks.length === 1 ? this.#blocks[0] : Buffer.concat(this.#blocks);
      const length = bytes.readUInt32BE(0);
      if (length > this.frameBytesMax) throw broken(`a frame of ${length} bytes`, "request_too_large", 413);
      this.#blocks = [bytes];
      this.#wanted = HEADER_BYTES + length;
      if (bytes.length < this.#wanted) return;
      const frame = {
        opcode: bytes[4], flags: bytes[5], aux: bytes.readUInt16BE(6), stream: bytes.readUInt32BE(8),
        arg: bytes.readUInt32BE(12), payload: bytes.subarray(HEADER_BYTES, this.#wanted),
      };
      this.#blocks = [bytes.subarray(this.#wanted)];
      this.#bytes -= this.#wanted;
      this.#wanted = HEADER_BYTES;
      yield frame;
    }
  }
}

function nameBytes(text, what) {
  const bytes = encodeText(text);
  if (bytes.length > 255) throw broken(`${what} is longer than 255 bytes`);
  return bytes;
}

/** Walks through a payload; reading beyond its end is the sender's mistake. */
class Cursor {
  constructor(bytes, at) {
    if (bytes.length < at) throw broken("a preamble is cut short");
    this.bytes = bytes;
    this.at = at;
  }

  take(count) {
    if (this.at + count > this.bytes.length) throw broken("a preamble is cut short");
    return this.bytes.subarray(this.at, (this.at += count));
  }

  text(count) {
    return decodeText(this.take(count));
  }
}

/** The preamble of INFER_REQUEST. `priority` is 0 to 3 or 255 for the key's own, `trace` 16 bytes. */
export function encodeRequest({ model = "", session = "", priority = 255, trace = Buffer.alloc(16) }) {
  const [modelBytes, sessionBytes] = [nameBytes(model, "a model's name"), nameBytes(session, "a session id")];
  const numbers = Buffer.from([modelBytes.length, sessionBytes.length, priority, 0]);
  if (trace.length !== 16) throw broken("a trace id has 16 bytes");
  return Buffer.concat([numbers, trace, modelBytes, sessionBytes]);
}

export function decodeRequest(payload) {
  const cursor = new Cursor(payload, 20);
  const [model, session] = [cursor.text(payload[0]), cursor.text(payload[1])];
  return { model, session, priority: payload[2], trace: payload.subarray(4, 20), bodyAt: cursor.at };
}

/** The preamble of INFER_RESPONSE. */
export function encodeResponse({ promptTokens, completionTokens, finish, attempts, version, model }) {
  const [versionBytes, modelBytes] = [nameBytes(version, "a version"), nameBytes(model, "a model's name")];
  const numbers = Buffer.alloc(12);
  numbers.writeUInt32BE(promptTokens, 0);
  numbers.writeUInt32BE(completionTokens, 4);
  numbers.set([Math.max(FINISHES.indexOf(finish), 0), attempts, versionBytes.length, modelBytes.length], 8);
  return Buffer.concat([numbers, versionBytes, modelBytes]);
}

export function decodeResponse(payload) {
  const cursor = new Cursor(payload, 12);
  const [version, model] = [cursor.text(payload[10]), cursor.text(payload[11])];
  return {
    promptTokens: payload.readUInt32BE(0), completionTokens: payload.readUInt32BE(4),
    finish: FINISHES[payload[8]] ?? "", attempts: payload[9], version, model, bodyAt: cursor.at,
  };
}

/** The preamble of TENSOR. */
export function encodeTensor({ name, dtype, shape }) {
  const bytes = nameBytes(name, "a tensor's name");
  const sizes = Buffer.alloc(4 * shape.length);
  shape.forEach((size, at) => sizes.writeUInt32BE(size, 4 * at));
  return Buffer.concat([Buffer.from([bytes.length, TENSOR_TYPES.indexOf(dtype), shape.length, 0]), sizes, bytes]);
}

export function decodeTensor(payload) {
  const cursor = new Cursor(payload, 4);
  if (payload[2] > 8 || payload[1] >= TENSOR_TYPES.length) throw broken("a tensor that nobody knows");
  const shape = Array.from({ length: payload[2] }, () => cursor.take(4).readUInt32BE(0));
  return { name: cursor.text(payload[0]), dtype: TENSOR_TYPES[payload[1]], shape, bodyAt: cursor.at };
}

const finite = (_, value) => {
  if (typeof value === "number" && !Number.isFinite(value)) throw broken("a number is not finite");
  if (typeof value === "string") encodeText(value);
  return value;
};

/** How bodies are written, by the name that HELLO and WELCOME use. */
export const CODECS = {
  json: {
    encode: (body) => Buffer.from(JSON.stringify(body, finite), "utf-8"),
    decode: (bytes) => (bytes.length ? JSON.parse(decodeText(bytes)) : {}),
  },
  msgpack: {
    encode: encodeMessagePack,
    decode: (bytes) => (bytes.length ? decodeMessagePack(bytes) : {}),
  },
};

/** Read a body; whatever is wrong with it is an McpError. */
export function decodeBody(codec, bytes) {
  let body;
  try {
    body = CODECS[codec].decode(bytes);
  } catch (error) {
    throw error instanceof McpError ? error : broken(`a body cannot be read: ${error.message}`);
  }
  if (body === null || typeof body !== "object" || Array.isArray(body)) throw broken("a body is not a dictionary");
  return body;
}

/** Write a body; whatever cannot be written is an McpError. */
export function encodeBody(codec, body) {
  try {
    return CODECS[codec].encode(body);
  } catch (error) {
    throw error instanceof McpError ? error : broken(`a body cannot be written: ${error.message}`);
  }
}
