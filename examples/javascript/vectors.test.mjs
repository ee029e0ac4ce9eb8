// node --test examples/javascript: every vector of docs/protocol/vectors is read to its meaning and written back, and
// every conversation among them is held by the client with a server that says what is written there.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import net from "node:net";
import { test } from "node:test";

import { Client, McpError } from "./mcp_client.mjs";
import { Connection } from "./mcp_connection.mjs";
import {
  FrameReader, OP, decodeBody, decodeRequest, decodeResponse, decodeTensor, encodeBody, encodeFrame, encodeRequest,
  encodeResponse, encodeTensor,
} from "./mcp_frames.mjs";
import { playing, textOf } from "./played.mjs";

const VECTORS = new URL("../../docs/protocol/vectors/", import.meta.url);
const load = (kind) => JSON.parse(readFileSync(new URL(`${kind}.json`, VECTORS), "utf-8"));
const hex = (text) => Buffer.from(text, "hex");
const framesOf = (bytes) => [...new FrameReader(1_048_576).read(bytes)];

for (const { name, bytes_hex, fields } of load("frames")) {
  test(`frame ${name}`, () => {
    const { payload_hex, ...numbers } = fields;
    const reader = new FrameReader();
    const found = [...hex(bytes_hex)].flatMap((byte) => [...reader.read(Buffer.of(byte))]); // one byte at a time
    assert.deepEqual(found, [{ ...numbers, payload: hex(payload_hex) }]);
    assert.equal(encodeFrame(found[0]).toString("hex"), bytes_hex);
    assert.equal(reader.heldBytes, 0);
  });
}

const PREAMBLES = {
  request: [decodeRequest, encodeRequest, ({ trace_hex, ...rest }) => ({ ...rest, trace: hex(trace_hex) })],
  response: [decodeResponse, encodeResponse, ({ prompt_tokens, completion_tokens, ...rest }) => (
    { ...rest, promptTokens: prompt_tokens, completionTokens: completion_tokens })],
  tensor: [decodeTensor, encodeTensor, (fields) => fields],
};
for (const { name, bytes_hex, fields } of load("preambles")) {
  test(`preamble ${name}`, () => {
    const { kind, body_at: bodyAt, ...told } = fields;
    const [decode, encode, named] = PREAMBLES[kind];
    const payload = hex(bytes_hex);
    assert.deepEqual(decode(payload), { ...named(told), bodyAt });
    assert.deepEqual(Buffer.concat([encode(named(told)), payload.subarray(bodyAt)]), payload);
    for (let cut = 0; cut < bodyAt; cut += 1) assert.throws(() => decode(payload.subarray(0, cut)), McpError);
  });
}

const bodies = load("bodies");
for (const { name, bytes_hex, codec, body } of bodies.filter((one) => one.codec !== "protobuf")) {
  test(`body ${name}`, () => {
    assert.deepEqual(decodeBody(codec, hex(bytes_hex)), body);
    assert.equal(encodeBody(codec, body).toString("hex"), bytes_hex);
  });
}

test("the client speaks two of the three codecs", () => {
  assert.deepEqual(new Set(bodies.map((one) => one.codec)), new Set(["json", "msgpack", "protobuf"]));
});

const LONG = "\ufeff你好 👋".repeat(8000); // a byte order mark is a character like any other
const numbers = [0, 127, 128, 255, 256, 65535, 65536, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 2n ** 64n - 1n];
const negative = [-1, -32, -33, -128, -129, -32768, -32769, -(2 ** 31), -(2 ** 31) - 1, -(2n ** 63n)];
const many = { numbers, negative, floats: [0.1, -0, 1e300], long: LONG, list: Array(70_000).fill(true) };
test("JSON keeps every character, and takes no byte order mark of its own", () => {
  assert.deepEqual(decodeBody("json", encodeBody("json", { LONG })), { LONG });
  assert.throws(() => decodeBody("json", Buffer.from("\ufeff{}")), McpError);
});

test("MessagePack of every size", () => {
  const wide = Object.fromEntries(Array.from({ length: 70 }, (_, at) => [`${"k".repeat(at)}${at}`, at]));
  const body = { ...many, wide, ["__proto__"]: 1 };
  assert.deepEqual(decodeBody("msgpack", encodeBody("msgpack", body)), body);
});

test("bodies are 64 deep and have 100,000 values, and no more", () => {
  const deep = (levels) => (levels === 1 ? {} : { a: deep(levels - 1) });
  const wide = (count) => Object.fromEntries(Array.from({ length: count }, (_, at) => [`${at}`, at]));
  const bytes = encodeBody("msgpack", deep(64));
  assert.deepEqual(decodeBody("msgpack", bytes), deep(64));
  assert.throws(() => encodeBody("msgpack", deep(65)), McpError);
  assert.throws(() => decodeBody("msgpack", Buffer.concat([hex("81a161"), bytes])), McpError);
  assert.deepEqual(decodeBody("msgpack", encodeBody("msgpack", wide(100_000))), wide(100_000));
  assert.throws(() => decodeBody("msgpack", encodeBody("msgpack", wide(100_001))), McpError);
});

for (const [what, bad] of Object.entries({
  "half a character": { text: "\ud83d" },
  "no number": { value: NaN },
  "a function": { list: [() => 1] },
})) {
  test(`${what} is not written`, () => {
    assert.throws(() => encodeBody("msgpack", bad), McpError);
    if (what !== "a function") assert.throws(() => encodeBody("json", bad), McpError);
  });
}

for (const bytes of ["", "81", "a161", "90", "81c001", "81a16bc403000102", "81a161d90561", "80c0", "81a1ff01"]) {
  test(`MessagePack ${bytes || "nothing"}`, () => {
    if (bytes === "") assert.deepEqual(decodeBody("msgpack", hex(bytes)), {});
    else assert.throws(() => decodeBody("msgpack", hex(bytes)), McpError);
  });
}

for (const { name, bytes_hex } of load("refused")) {
  test(`refused ${name}`, () => {
    if (name === "frame_too_long") assert.throws(() => framesOf(hex(bytes_hex)), { code: "request_too_large" });
    else assert.equal(Buffer.concat(framesOf(hex(bytes_hex)).map(encodeFrame)).toString("hex"), bytes_hex);
  });
}

const TRACE = hex("000102030405060708090a0b0c0d0e0f");
const BODY = { prompt: "Say hi", max_tokens: 8 };
const ask = { trace: TRACE };
const noDeadline = { ...ask, timeoutMs: 1000 }; // a client of ours always has one; it is left out of the comparison

const PLAYED = {
  async unary(client) {
    const answer = await client.infer("chat", BODY, { ...ask, timeoutMs: 5000 });
    assert.deepEqual([answer.text, answer.finish, answer.promptTokens, answer.completionTokens, answer.attempts],
      ["Hi.", "stop", 3, 1, 1]);
    assert.deepEqual([answer.version, answer.model], ["v1", "chat"]);
  },
  async streamed(client) {
    const stream = client.stream("chat", BODY, { ...ask, timeoutMs: 5000 });
    assert.equal(await textOf(stream), "Hi there.");
    assert.equal(stream.answer.completionTokens, 2);
  },
  async credit(client) {
    const stream = client.stream("chat", BODY, noDeadline);
    assert.match(await textOf(stream), /^x+y+the rest$/);
    assert.equal(stream.answer.finish, "length");
  },
  async cancel(client, { until }) {
    const stream = client.stream("chat", BODY, noDeadline);
    until(2).then(() => stream.cancel()); // HELLO and the request
    await assert.rejects(textOf(stream), { code: "client_closed" });
  },
  async error(client) {
    const told = { code: "overloaded", status: 503, retryable: true, retryAfterMs: 1500, requestId: "req_01" };
    await assert.rejects(client.infer("chat", BODY, noDeadline), told);
  },
  async fragments(client) {
    assert.equal((await client.infer("chat", BODY, noDeadline)).text, "Long.");
  },
};

/** What must be the same in two messages: all, but for what a client may choose for itself. */
function told({ opcode, flags, aux, stream, arg, payload }) {
  if (opcode === OP.HELLO) {
    const { versions, codecs, window } = JSON.parse(payload);
    return { opcode, versions, codecs, window };
  }
  if (opcode === OP.GOODBYE) return { opcode, aux, code: JSON.parse(payload).code };
  return { opcode, flags, aux, stream, arg: opcode === OP.INFER_REQUEST ? arg > 1000 && arg <= 5000 : arg, payload };
}

const conversations = Object.fromEntries(load("conversations").map((one) => [one.name, one.steps]));
for (const [name, held] of Object.entries(PLAYED)) {
  test(`conversation ${name}`, async (t) => {
    const server = await playing(conversations[name], t);
    const window = name === "credit" ? 65_536 : 262_144;
    const client = new Client(`mcp://127.0.0.1:${server.port}`, { codecs: ["json"], window });
    await held(client, server);
    client.close();
    const heard = await server.all();
    const windows = heard.filter((one) => one.opcode === OP.WINDOW); // when, and in how many, is the client's affair
    assert.equal(windows.reduce((sum, { arg }) => sum + arg, 0), name === "credit" ? 65_536 : 0);
    const rest = (messages) => messages.filter((one) => one.opcode !== OP.WINDOW).map(told);
    const end = name === "unary" ? [] : [{ opcode: OP.GOODBYE, aux: 499, code: "client_closed" }];
    assert.deepEqual(rest(heard), [...rest(server.expected), ...end]);
  });
}

test("conversation drain", async (t) => {
  const { port, all, expected } = await playing(conversations.drain, t);
  const options = { codecs: ["json"], window: 262_144, agent: "test", requestsMax: 1 };
  const payload = Buffer.concat([encodeRequest({ model: "chat", trace: TRACE }), encodeBody("json", BODY)]);
  const seen = [];
  const call = { onError: ({ code, retryable }) => seen.push(code, retryable) };
  const onOpen = (connection) => connection.begin(call, { opcode: OP.INFER_REQUEST, payload }); // before DRAIN is heard
  await new Promise((resolve) => {
    const onDrain = ({ state }, alternatives) => seen.push(state, ...alternatives);
    Connection.open({ host: "127.0.0.1", port }, options, { onOpen, onDrain, onClosed: resolve });
  });
  assert.deepEqual(seen, ["draining", "10.0.0.2:8080", "server_draining", true]);
  assert.deepEqual((await all()).map(told), expected.map(told));
});

test("conversations resume_first and resume_second", async (t) => {
  const first = await playing(conversations.resume_first, t);
  const second = await playing(conversations.resume_second, t);
  let relayed = 0;
  const relay = net.createServer((socket) => {
    const behind = net.connect([first.port, second.port][relayed++], "127.0.0.1");
    socket.pipe(behind);
    behind.on("data", (block) => {
      socket.write(block);
      if (relayed === 1 && block.includes("Hi")) socket.end(() => socket.destroy());
    });
    for (const one of [socket, behind]) one.on("error", () => {}).on("close", () => behind.destroy());
  });
  await new Promise((resolve) => relay.listen(0, "127.0.0.1", resolve));
  t.after(() => relay.close());
  const client = new Client(`mcp://127.0.0.1:${relay.address().port}`, { codecs: ["json"] });
  const stream = client.stream("chat", BODY, { ...noDeadline, resumable: true });
  assert.equal(await textOf(stream), "Hi there.");
  client.close();
  const heard = await second.all();
  assert.deepEqual(heard.slice(0, 2).map(told), second.expected.map(told));
  assert.deepEqual((await first.all()).map(told), first.expected.map(told));
  assert.equal(JSON.parse(heard[0].payload).resume, "r-1");
});

test("every conversation is held", () => {
  const others = ["drain", "resume_first", "resume_second"];
  assert.deepEqual(Object.keys(conversations).sort(), [...Object.keys(PLAYED), ...others].sort());
});
