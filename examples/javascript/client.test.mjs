// What a client must do that no vector shows: answer PING, hold the server to the rules, notice silence.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client, McpError } from "./mcp_client.mjs";
import { FLAG, OP, encodeBody, encodeFrame, encodeResponse } from "./mcp_frames.mjs";
import { playing, textOf } from "./played.mjs";

const json = (body) => encodeBody("json", body);
const WELCOME = { // of a server with small limits
  version: "1.0", codec: "json", connection: "c-1", resume: "", frame_bytes_max: 65_536, message_bytes_max: 1_048_576,
  requests_max: 2, heartbeat_ms: 5_000, window: 262_144,
};
const ANYTHING = { from: "client", bytes_hex: "004d435001000000" + encodeFrame({ opcode: OP.HELLO }).toString("hex") };
const REQUEST = { from: "client", bytes_hex: encodeFrame({ opcode: OP.INFER_REQUEST, stream: 1 }).toString("hex") };
const says = (...frames) => ({ from: "server", bytes_hex: Buffer.concat(frames.map(encodeFrame)).toString("hex") });
const welcomes = (more = {}) => says({ opcode: OP.WELCOME, payload: json({ ...WELCOME, ...more }) });
const chunk = (arg, text) => ({ opcode: OP.INFER_CHUNK, stream: 1, arg, payload: Buffer.from(text) });
const known = { promptTokens: 1, completionTokens: 2, finish: "stop", attempts: 1, version: "", model: "m" };
const response = (arg, body = {}) => (
  { opcode: OP.INFER_RESPONSE, stream: 1, arg, payload: Buffer.concat([encodeResponse(known), json(body)]) });

/** A client in front of a server that waits for one request and then says some frames; `then` gets both. */
async function talking(t, steps, then, options = {}) {
  const server = await playing([ANYTHING, ...steps], t);
  const client = new Client(`mcp://127.0.0.1:${server.port}`, { codecs: ["json"], window: 65_536, ...options });
  await then(client, server);
  client.close();
  return (await server.all()).map(({ opcode, aux, arg }) => ({ opcode, aux, arg }));
}

test("PING is answered with its number", async (t) => {
  const steps = [welcomes(), REQUEST, says({ opcode: OP.PING, arg: 77 }, response(0, { text: "好" }))];
  const heard = await talking(t, steps, async (client) => {
    assert.equal((await client.infer("m", "q")).text, "好");
  });
  assert.ok(heard.some(({ opcode, arg }) => opcode === OP.PONG && arg === 77));
});

test("a silent server is asked, then given up", async (t) => {
  const heard = await talking(t, [welcomes({ heartbeat_ms: 40 }), REQUEST], async (client) => {
    await assert.rejects(client.infer("m", "q"), { code: "request_timeout", status: 408 });
  });
  assert.deepEqual(heard.slice(2).map(({ opcode }) => opcode), [OP.PING, OP.GOODBYE]);
  assert.equal(heard.at(-1).aux, 408);
});

for (const [what, frames, status] of [
  ["a chunk that is not the next", [chunk(0, "a"), chunk(2, "b")], 400],
  ["more text than the credit", [chunk(0, "x".repeat(40_000)), chunk(1, "x".repeat(40_000))], 400],
  ["another message within fragments", [{ ...response(0), flags: FLAG.MORE }, { opcode: OP.ERROR, stream: 1 }], 400],
  ["half a character", [{ ...chunk(0, ""), payload: Buffer.of(0xe4, 0xbd) }], 400],
  ["a payload that is too long", [{ ...chunk(0, ""), payload: Buffer.alloc(65_537) }], 413],
]) {
  test(`${what} ends the connection`, async (t) => {
    const heard = await talking(t, [welcomes(), REQUEST, says(...frames)], async (client) => {
      const stream = client.stream("m", "q");
      await new Promise((resolve) => setTimeout(resolve, 100)); // nothing is read: no credit is given back
      await assert.rejects(textOf(stream), { status });
    });
    assert.deepEqual([heard.at(-1).opcode, heard.at(-1).aux], [OP.GOODBYE, status]);
  });
}

test("chunks are joined to the character", async (t) => {
  const parts = ["\ufeff你", "", "👋", "\ufeff好\u0000"];
  const frames = parts.map((text, at) => chunk(at, text));
  await talking(t, [welcomes(), REQUEST, says(...frames, response(4))], async (client) => {
    assert.equal(await textOf(client.stream("m", "q")), parts.join(""));
  });
});

test("an answer that counts more chunks than came is not whole", async (t) => {
  await talking(t, [welcomes(), REQUEST, says(chunk(0, "a"), response(2))], async (client) => {
    await assert.rejects(textOf(client.stream("m", "q")), { code: "stream_interrupted" });
  });
});

test("a response and an error come in fragments, and what is not known is ignored", async (t) => {
  const whole = response(0, { text: "世界".repeat(50), later: 1 });
  const parts = [[0, 5], [5, 47], [47, 48], [48]].map(([from, to], at) => (
    { ...whole, flags: at < 3 ? FLAG.MORE : 0, arg: 0, payload: whole.payload.subarray(from, to) }));
  const later = [{ opcode: 200, stream: 1, payload: Buffer.of(1) }, { opcode: 201 }, { opcode: 20 }];
  await talking(t, [welcomes({ later: [] }), REQUEST, says(parts[0], ...later, ...parts.slice(1))], async (client) => {
    assert.equal((await client.infer("m", "q")).text, "世界".repeat(50));
  });
});

test("requests beyond the server's number, and beyond its length, are refused here", async (t) => {
  await talking(t, [welcomes(), REQUEST, REQUEST, says(response(0), { ...response(0), stream: 3 })], async (client) => {
    await assert.rejects(client.infer("m", "q".repeat(1_100_000)), { code: "request_too_large" });
    const all = await Promise.allSettled([1, 2, 3].map(() => client.infer("m", "q".repeat(100_000))));
    assert.deepEqual(all.map(({ reason }) => reason?.code), [undefined, undefined, "overloaded"]);
  });
});

test("a reader that leaves, and a signal, cancel", async (t) => {
  const heard = await talking(t, [welcomes(), REQUEST, says(chunk(0, "a")), REQUEST], async (client, server) => {
    for await (const { text } of client.stream("m", "q")) if (text === "a") break;
    const stop = new AbortController();
    server.until(4).then(() => stop.abort());
    await assert.rejects(client.infer("m", "q", { signal: stop.signal }), { code: "client_closed" });
    await assert.rejects(client.infer("m", "q", { signal: stop.signal }), { code: "client_closed" });
  });
  const { INFER_REQUEST, CANCEL, GOODBYE } = OP;
  assert.deepEqual(heard.slice(1).map(({ opcode }) => opcode), [INFER_REQUEST, CANCEL, INFER_REQUEST, CANCEL, GOODBYE]);
});

test("a draining server's alternative is where the next request goes", async (t) => {
  const second = await playing([ANYTHING, welcomes(), REQUEST, says(response(0, { text: "second" }))], t);
  const drain = { opcode: OP.DRAIN, arg: 1000, payload: json({ alternatives: [`127.0.0.1:${second.port}`] }) };
  const steps = [welcomes(), REQUEST, says(drain, response(0, { text: "first" }))];
  await talking(t, steps, async (client) => {
    assert.equal((await client.infer("m", "q")).text, "first");
    assert.equal((await client.infer("m", "q")).text, "second");
  });
});

const CUT = { from: "cut" };
const gone = { opcode: OP.ERROR, stream: 1, aux: 410, payload: json({ code: "not_found", message: "not kept" }) };
for (const [what, taken] of [["was", true], ["was not", false]]) {
  test(`a RESUME that ${what} carried out, and is cut before its answer`, async (t) => {
    const rest = says(chunk(1, "b"), response(2));
    const elsewhere = { ...chunk(1, "b"), stream: 3 };
    const retried = says(elsewhere, { ...response(2), stream: 3 });
    const last = taken ? [REQUEST, rest] : [REQUEST, says(gone), REQUEST, retried];
    const server = await playing(
      [ANYTHING, welcomes({ resume: "r-1" }), REQUEST, says(chunk(0, "a")), CUT], t,
      [ANYTHING, welcomes({ resume: "r-2" }), REQUEST, CUT], [ANYTHING, welcomes({ resume: "r-3" }), ...last],
    );
    const client = new Client(`mcp://127.0.0.1:${server.port}`, { codecs: ["json"] });
    assert.equal(await textOf(client.stream("m", "q", { resumable: true })), "ab");
    const asked = server.each().flat().filter(({ opcode }) => opcode === OP.RESUME);
    const tokens = asked.map(({ arg, payload }) => [arg, JSON.parse(payload).token]);
    assert.deepEqual(tokens, [[1, "r-1"], [1, "r-2"], ...(taken ? [] : [[1, "r-1"]])]);
    client.close();
  });
}

test("what a server has forgotten is told", async (t) => {
  const first = [ANYTHING, welcomes({ resume: "r-1" }), REQUEST, says(chunk(0, "a")), CUT];
  const server = await playing(first, t, [ANYTHING, welcomes({ resume: "r-2" }), REQUEST, says(gone)]);
  const client = new Client(`mcp://127.0.0.1:${server.port}`, { codecs: ["json"] });
  await assert.rejects(textOf(client.stream("m", "q", { resumable: true, timeoutMs: 2000 })), { status: 410 });
  client.close();
});

test("a key is not sent in clear to another machine", async () => {
  const client = new Client("mcp://192.0.2.1:8080", { key: "k" });
  await assert.rejects(client.infer("m", "q"), { code: "invalid_request", message: /only over TLS/ });
});

for (const bad of ["ftp://x", "mcp://", "x:1"]) {
  test(`${bad} is no address`, () => assert.throws(() => new Client(bad), McpError));
}
