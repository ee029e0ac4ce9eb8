// MCP_SERVER_URL=http://127.0.0.1:8080 MCP_API_KEY=… node examples/javascript/ask.mjs "What is 274 + 658?"
import { Client } from "./mcp_client.mjs";

const { MCP_SERVER_URL = "mcp://127.0.0.1:8080", MCP_API_KEY = "", MODEL = "glm-nano" } = process.env;
const client = new Client(MCP_SERVER_URL, { key: MCP_API_KEY });
const stream = client.stream(MODEL, process.argv[2] ?? "What is 274 + 658?", { timeoutMs: 30_000 });
for await (const { text, reasoning } of stream) if (!reasoning) process.stdout.write(text);
console.log(` (${stream.answer.finish}, ${stream.answer.completionTokens} tokens)`);
client.close();
