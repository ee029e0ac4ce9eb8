#!/usr/bin/env bash
# Tests against real servers. Installs them from Debian's packages where they are missing (that needs root), then
# starts them as child processes on free ports with temporary folders.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${1:-.venv/bin/python}"
missing=()
for pair in nginx:nginx-light haproxy:haproxy wrk:wrk node:nodejs; do
  command -v "${pair%%:*}" >/dev/null || [ -x "/usr/sbin/${pair%%:*}" ] || missing+=("${pair#*:}")
done
if [ "${#missing[@]}" -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
PATH="$PATH:/usr/sbin" PYTHONPATH=src "$python" -m pytest -m servers tests "${@:2}"
