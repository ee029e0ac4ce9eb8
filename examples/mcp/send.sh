#!/bin/sh
# MCP messages over HTTP: one message in, one out, or a stream of messages. See ../README.md for the variables.
set -eu
url="${MCP_SERVER_URL:-http://127.0.0.1:8080}/mcp/v1/messages"
folder="$(dirname "$0")"

send() {
  curl --silent --show-error --max-time 60 "$url" --header "authorization: Bearer ${MCP_API_KEY:-none}" \
    --header "content-type: application/json" "$@"
  echo
}

# Each answer takes the form of its request, and carries the ids that the request carried.
for form in typed opcode meta; do
  echo "# $form"
  send --data @"$folder/${form}_request.json"
done

echo "# streamed: INFER_CHUNKs that count from 0, then the response"
send --no-buffer --header "accept: text/event-stream" --data @"$folder/typed_request.json"

echo "# an error: opcode 14, or type ERROR"
send --data @"$folder/unknown_model.json"
