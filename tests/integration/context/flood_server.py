"""A server of the context protocol, without a library, whose only tool writes a line that never ends."""

import json
import sys

out = sys.stdout.buffer
ANSWERS = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "flood", "version": "1"},
    },
    "tools/list": {"tools": [{"name": "flood", "inputSchema": {"type": "object"}}]},
}
out.write(b"a line that is no message\n")
for line in sys.stdin.buffer:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    if asked["method"] == "tools/call":
        while True:
            out.write(b"x" * 65536)
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    if asked["method"] in ANSWERS:
        answer["result"] = ANSWERS[asked["method"]]
    else:
        answer["error"] = {"code": -32601, "message": "no such method"}
    out.write(json.dumps(answer).encode() + b"\n")
    out.flush()
