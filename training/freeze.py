"""Writes `SHA256SUMS`: the bytes of every shipped model file, which never change afterwards.

python -m training.freeze
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from open_autoglm.engines.embedded.catalog import MODELS_DIR


def sums(folder: Path) -> str:
    """Lines as `sha256sum` writes them, sorted by name, for every file under `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files)


if __name__ == "__main__":
    (Path(__file__).parent / "SHA256SUMS").write_text(sums(MODELS_DIR))
