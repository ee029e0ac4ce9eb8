#!/usr/bin/env bash
# Installs what the comparison needs on Debian 12: wrk, nginx and HAProxy with apt, the other gateways into environments of their own
# under .venvs/. Run it again at any time; what is there already stays. Names restrict it to those gateways. With --update it takes
# the newest versions that install and writes them down in requirements-*.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A packages=(
  [vllm-router]="vllm-router"
  [sglang-router]="sglang-router"
  [smg]="smg"
  [aiohttp-proxy]="aiohttp uvloop"
  [litellm]="litellm[proxy]"
  [langgraph]="langgraph langgraph-checkpoint-sqlite"  # these three: benchmarks/graph
  [agent-framework]="agent-framework-core"
  [dbos]="dbos"
  [py-spy]="py-spy"  # no gateway: benchmarks/spy.py
)
pip_flags=(--quiet --disable-pip-version-check --no-input)

install_system() {
  local missing=()
  for program in wrk nginx haproxy taskset; do
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$program" >/dev/null || missing+=("$program")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  local become=()
  [ "$(id -u)" -eq 0 ] || become=(sudo)
  "${become[@]}" apt-get update -qq
  # The packages' services must not start: the rig starts its own processes.
  "${become[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -qq --no-install-recommends wrk nginx-light haproxy util-linux python3-venv
}

# Not an environment: a copy of the sources, compiled, that runs in ours.
install_native() {
  local folder="$PWD/.venvs/native"
  [ -x .venv/bin/mypyc ] || { echo "run 'make test' first: the compiler is in its environment" >&2; return 1; }
  rm -rf "$folder/src" && mkdir -p "$folder/bin" && cp -r src "$folder/src" || return 1
  printf '#!/bin/sh\nexec "%s/.venv/bin/python" "$@"\n' "$PWD" >"$folder/bin/python" && chmod +x "$folder/bin/python" || return 1
  .venv/bin/python native/build.py --src "$folder/src"
}

install_target() {
  local name=$1 update=$2 folder=".venvs/$1" lock="benchmarks/requirements-$1.txt"
  if [ "$name" = native ]; then install_native; return; fi
  # `|| return` because bash switches `set -e` off inside a function that is asked with `if`.
  [ -x "$folder/bin/python" ] || python3 -m venv "$folder" || return 1
  if [ "$update" = yes ]; then
    # shellcheck disable=SC2086  # several packages in one string
    "$folder/bin/pip" install "${pip_flags[@]}" --upgrade ${packages[$name]} || return 1
    { echo "# Frozen environment of one target of the comparison; see benchmarks/setup.sh."; "$folder/bin/pip" freeze; } >"$lock"
  else
    "$folder/bin/pip" install "${pip_flags[@]}" --requirement "$lock"
  fi
}

update=no
if [ "${1:-}" = "--update" ]; then
  update=yes
  shift
fi
[ $# -gt 0 ] || set -- native "${!packages[@]}"
install_system
for name in "$@"; do
  # One gateway that does not install must not stop the others; the table says that it is missing.
  if install_target "$name" "$update"; then
    echo "$name: ready"
  else
    echo "$name: could not be installed, the comparison will say so" >&2
  fi
done
