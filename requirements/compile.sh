#!/usr/bin/env bash
# Rewrites the lock files from pyproject.toml. Needs `uv` on the PATH; versions younger than a week are left alone.
set -euo pipefail
cd "$(dirname "$0")/.."
newest=$(date -u -d '7 days ago' +%Y-%m-%dT00:00:00Z)
flags=(--quiet --universal --generate-hashes --python-version 3.11 --no-header --exclude-newer "$newest" --upgrade)
uv pip compile "${flags[@]}" pyproject.toml -o requirements/core.txt
uv pip compile "${flags[@]}" --extra grpc -c requirements/core.txt pyproject.toml -o requirements/grpc.txt
uv pip compile "${flags[@]}" --extra context -c requirements/core.txt pyproject.toml -o requirements/context.txt
uv pip compile "${flags[@]}" --extra onnx -c requirements/core.txt pyproject.toml -o requirements/onnx.txt
uv pip compile "${flags[@]}" --group dev -c requirements/core.txt pyproject.toml -o requirements/dev.txt
uv pip compile "${flags[@]}" --group build -o requirements/build.txt
uv pip compile "${flags[@]}" --group context-servers -o requirements/context-servers.txt
uv pip compile "${flags[@]}" --group engines -c requirements/dev.txt pyproject.toml -o requirements/engines.txt
