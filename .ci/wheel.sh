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
for _ in $(seq 100); do
  curl --silent --fail --max-time 2 http://127.0.0.1:18431/readyz >/dev/null && break
  sleep 0.1
done
answer="$(curl --silent --fail --max-time 20 http://127.0.0.1:18431/v1/chat/completions -H 'content-type: application/json' \
  -d '{"model": "glm-nano", "messages": [{"role": "user", "content": "What is 17 + 25?"}]}')" || { cat "$work/server.log"; exit 1; }
echo "$answer"
case "$answer" in
  *42*) echo "the installed wheel answers" ;;
  *) echo "the installed wheel answered something else" >&2; exit 1 ;;
esac
