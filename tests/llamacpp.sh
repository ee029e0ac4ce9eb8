#!/usr/bin/env bash
# Tests of the llama.cpp engine, in an environment of their own (.venvs/llamacpp). The library comes as source: to build it takes
# gcc and some 11 minutes of one core, once, so that `.ci/run` leaves it out.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venvs/llamacpp
if [ ! -e "$venv/made" ] || [ requirements/engines.txt -nt "$venv/made" ]; then
  "${1:-python3}" -m venv "$venv"
  pip=("$venv/bin/pip" install --quiet --disable-pip-version-check)
  "${pip[@]}" --require-hashes --only-binary :all: -r requirements/engines.txt
  "${pip[@]}" "llama-cpp-python==0.3.36"
  touch "$venv/made"
fi
PYTHONPATH=src "$venv/bin/python" -m pytest tests/llamacpp --override-ini "filterwarnings=" "${@:2}"
