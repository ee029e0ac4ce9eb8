#!/usr/bin/env bash
# Tests of the engines that need PyTorch, in an environment of their own (.venvs/engines, made here when it is not there).
# PyTorch is installed by its version alone: its build for CPUs is on PyTorch's own index, unless pip finds it nearer.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venvs/engines
torch="torch==2.13.0+cpu"
pip=("$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all:)
if [ ! -e "$venv/made" ] || [ requirements/engines.txt -nt "$venv/made" ]; then
  "${1:-python3}" -m venv "$venv"
  "${pip[@]}" --require-hashes -r requirements/engines.txt
  "${pip[@]}" --no-deps "$torch" 2>/dev/null ||
    "${pip[@]}" --no-deps "$torch" --extra-index-url https://download.pytorch.org/whl/cpu
  touch "$venv/made"
fi
HF_HUB_OFFLINE=1 PYTHONPATH=src "$venv/bin/python" -m pytest tests/engines --override-ini "filterwarnings=" "${@:2}"
