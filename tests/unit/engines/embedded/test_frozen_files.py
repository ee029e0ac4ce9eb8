"""Models and held-out sets are frozen: later measurements compare with figures taken on these very bytes.

A change here needs a decision page and new figures everywhere; it is never a side effect.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from open_autoglm.engines.embedded import catalog

ROOT = Path(__file__).parents[4]
TRAINING = ROOT / "training"


def listed(path: Path) -> dict[str, str]:
    """File name to hash, of a file as `sha256sum` writes it."""
    pairs = (line.split("  ", 1) for line in path.read_text().splitlines())
    return {name: sha256 for sha256, name in pairs}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_model_file_is_the_released_one() -> None:
    found = {
        str(path.relative_to(catalog.MODELS_DIR)): sha256(path)
        for path in catalog.MODELS_DIR.rglob("*")
        if path.is_file()
    }
    assert found == listed(TRAINING / "SHA256SUMS")
    assert len(found) == 18


def test_every_held_out_set_is_the_released_one() -> None:
    folder = TRAINING / "heldout"
    assert {path.name: sha256(path) for path in folder.glob("*.jsonl")} == listed(folder / "SHA256SUMS")


def test_the_models_weigh_less_than_four_megabytes() -> None:
    assert sum(path.stat().st_size for path in catalog.MODELS_DIR.rglob("*") if path.is_file()) < 4_000_000
