"""Turns a result file into `docs/benchmarks.md` and the plots: `python benchmarks/report.py [RESULT.json]`.

Every figure of the page comes from the result file; the sentences around it are fixed, so the page cannot claim what
was not measured.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.framed.direct_section import direct_section
from benchmarks.framed.section import framed_section, serialization_section
from benchmarks.graph.section import graph_section
from benchmarks.rig.connections_page import connections_section
from benchmarks.rig.embedded_page import embedded_section
from benchmarks.rig.page import page
from benchmarks.rig.plot import draw
from benchmarks.rig.summary import Summary
from benchmarks.rig.targets import DIRECT, ROOT

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
IMAGE = ROOT / "docs" / "images" / "benchmarks"
SECTIONS = {
    "framed.json": framed_section,
    "direct.json": direct_section,
    "serialization.json": serialization_section,
    "embedded.json": embedded_section,
    "connections.json": connections_section,
    "graph.json": graph_section,
}
"""What was measured apart: results, and what writes their sections."""


def write(path: Path) -> None:
    """Writes the page and the plots from the result file at `path`."""
    result: dict[str, Any] = json.loads(path.read_text())
    summary = Summary(result["runs"])
    draw(summary, [name for name in result["targets"] if name != DIRECT], IMAGE)
    sections = [
        write_section(json.loads((RESULTS / name).read_text()))
        for name, write_section in SECTIONS.items()
        if (RESULTS / name).exists()
    ]
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(result, summary, *sections))
    print(f"wrote {PAGE} and {IMAGE}.svg")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS / "latest.json")
