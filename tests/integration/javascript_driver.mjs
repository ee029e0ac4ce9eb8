// The JavaScript client, told what to do by a test: a JSON object per line in, a JSON object per line out.
// {"id", "do": "open"|"infer"|"stream"|"cancel"|"close", …} is answered with {"id", …} or {"id", "error": {…}}.

import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";

import { Client } from "../../examples/javascript/mcp_client.mjs";

const clients = new Map();
const streams = new Map();
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (told) => process.stdout.write(`${JSON.stringify(told)}\n`);

const DO = {
  open({ client, address, options = {}, ca }) {
    clients.set(client, new Client(address, ca ? { ...options, tls: { ca: readFileSync(ca) } } : options));
  },
  infer: ({ client, model, body, options }) => clients.get(client).infer(model, body, options),
  async stream({ id, client, model, body, options, pause_ms: pauseMs = 0 }) {
    const stream = clients.get(client).stream(model, body, options);
    streams.set(id, stream);
    let text = "";
    let chunks = 0;
    for await (const chunk of stream) {
      if (chunks++ === 0) say({ id, began: true });
      if (!chunk.reasoning) text += chunk.text;
      if (pauseMs) await pause(pauseMs);
    }
    return { ...stream.answer, text, chunks };
  },
  cancel: ({ of }) => streams.get(of).cancel(),
  close: ({ client }) => clients.get(client).close(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const { id } = command;
  Promise.resolve()
    .then(() => DO[command.do](command))
    .then(
      (result) => say({ id, ...result }),
      ({ name, code, status, retryable, message }) => say({ id, error: { name, code, status, retryable, message } }),
    );
}
for (const client of clients.values()) client.close();
