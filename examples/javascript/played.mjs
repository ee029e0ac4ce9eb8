// For the tests: a server that says what a script has, and hears what a client says.

import net from "node:net";

import { FLAG, FrameReader, PREFACE } from "./mcp_frames.mjs";

const hex = (text) => Buffer.from(text, "hex");

/** Messages out of a client's bytes: fragments joined, so that it may cut them where it likes. */
class Heard {
  #reader = new FrameReader(1_048_576);
  #part = Buffer.alloc(0);
  #preface = PREFACE.length;
  messages = [];

  read(block) {
    const skipped = Math.min(this.#preface, block.length);
    this.#preface -= skipped;
    for (const frame of this.#reader.read(block.subarray(skipped))) {
      this.#part = Buffer.concat([this.#part, frame.payload]);
      if (frame.flags & FLAG.MORE) continue;
      this.messages.push({ ...frame, payload: this.#part });
      this.#part = Buffer.alloc(0);
    }
  }
}

/**
 * A server that holds a conversation: the same on each connection, or the next of `later`. A step is from "client",
 * from "server", or a "cut". What is heard is the first connection's.
 */
export async function playing(steps, t, ...later) {
  const expected = new Heard();
  for (const { from, bytes_hex } of steps) if (from === "client") expected.read(hex(bytes_hex));
  const sides = [];
  const server = net.createServer((socket) => {
    const left = [...([steps, ...later][sides.length] ?? steps)];
    const side = { heard: new Heard(), wanted: new Heard(), socket, left };
    sides.push(side);
    socket.on("data", (block) => {
      side.heard.read(block);
      server.emit("heard");
      play(side);
    });
    socket.on("error", () => {}).on("close", () => server.emit("heard"));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const until = async (holds) => {
    while (!(sides.length && holds(sides[0]))) await new Promise((resolve) => server.once("heard", resolve));
  };
  return {
    port: server.address().port,
    expected: expected.messages,
    until: (count) => until(({ heard }) => heard.messages.length >= count),
    /** What the first connection's client said, when that connection has ended. */
    async all() {
      await until(({ socket }) => socket.destroyed);
      return sides[0].heard.messages;
    },
    /** The same of every connection, as it is now. */
    each: () => sides.map(({ heard }) => heard.messages),
  };
}

/** Say what is the server's to say now: all up to the next step of the client's that has not been heard. */
function play({ heard, wanted, socket, left }) {
  while (left.length) {
    const bytes = hex(left[0].bytes_hex ?? "");
    if (left[0].from === "cut") socket.end(() => socket.destroy());
    else if (left[0].from === "server") socket.write(bytes);
    else if (heard.messages.length <= wanted.messages.length) return;
    else wanted.read(bytes);
    left.shift();
  }
}

/** The text of a stream, joined. */
export async function textOf(stream) {
  let text = "";
  for await (const chunk of stream) text += chunk.text;
  return text;
}
