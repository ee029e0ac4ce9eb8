#!/usr/bin/env bash
# Builds the wheel, installs it into an empty environment away from the checkout, and asks the server a question.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
work="$(mktemp -d)"
server=""
finish() {
  [ -n "$server" ] && kill "$server" 2>/dev/null && wait "$server" 2>/dev/null
  rm -rf "$work"
}
trap finish EXIT

python3 -m venv "$work/build"
"$work/build/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$root/requirements/build.txt"
(cd "$root" && "$work/build/bin/python" -m build --wheel --no-isolation --outdir "$work/dist" . >"$work/build.log") || { cat "$work/build.log"; exit 1; }

python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$root/requirements/core.txt"
"$work/env/bin/pip" install --quiet --disable-pip-version-check --no-deps "$work"/dist/*.whl

cd "$work"
"$work/env/bin/autoglm" demo --once
cat >"$work/config.yaml" <<'YAML'
server: {port: 18431, admin_port: 18432, data_dir: data}
models:
  - {name: glm-nano, endpoint: "embedded:glm-nano"}
YAML
"$work/env/bin/python" -m mcp_server --config config.yaml >"$work/server.log" 2>&1 &
server=$!
"$work/env/bin/python" - <<'PYTHON' || { cat "$work/server.log"; exit 1; }
import json, time, urllib.request

address = "http://127.0.0.1:18431/v1/chat/completions"
question = {"model": "glm-nano", "messages": [{"role": "user", "content": "What is 17 + 25?"}]}
request = urllib.request.Request(address, json.dumps(question).encode(), {"content-type": "application/json"})
for attempt in range(100):
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            content = json.load(answer)["choices"][0]["message"]["content"]
        break
    except ConnectionRefusedError as error:
        refused = error
    except urllib.error.URLError as error:
        refused = error
    time.sleep(0.1)
else:
    raise SystemExit(f"the server did not start: {refused}")
assert content.strip() == "42", f"17 + 25 was answered with {content!r}"
print("the installed wheel answers: 17 + 25 =", content)
PYTHON
