#!/bin/sh
# The server with nothing but curl. See README.md for the variables.
set -eu
url="${MCP_SERVER_URL:-http://127.0.0.1:8080}"
model="${MODEL:-glm-nano}"

ask() {
  path="$1"
  shift
  curl --silent --show-error --max-time 60 "$url$path" --header "authorization: Bearer ${MCP_API_KEY:-none}" "$@"
  echo
}

echo "# Models that this key may use"
ask /v1/models

echo "# An answer"
ask /v1/chat/completions --header "content-type: application/json" --data '{
  "model": "'"$model"'",
  "messages": [{"role": "user", "content": "What is 274 + 658?"}]
}'

echo "# The same as a stream, with its usage at the end"
ask /v1/chat/completions --no-buffer --header "content-type: application/json" --data '{
  "model": "'"$model"'",
  "messages": [{"role": "user", "content": "What is 274 + 658?"}],
  "stream": true,
  "stream_options": {"include_usage": true}
}'

echo "# An error: a model that is not there. Its request id is what 'autoglm trace' takes"
ask /v1/chat/completions --header "content-type: application/json" --data '{
  "model": "no-such-model",
  "messages": [{"role": "user", "content": "Hello"}]
}'
