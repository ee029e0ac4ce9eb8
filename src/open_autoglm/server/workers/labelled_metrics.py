"""Joins the metrics of several workers into one page: each sample gets the label `worker`.

Nothing is added up: a gauge of one worker means nothing when it is summed (a lag, a revision), and Prometheus sums what
can be (`sum without (worker)`). Invariant: each family has its two comment lines once, then the samples of all.
"""

from __future__ import annotations

from collections.abc import Mapping

_COMMENT = "# "


def join_metrics(pages: Mapping[int, bytes]) -> bytes:
    """Return one page in Prometheus' text format.

    Args:
        pages: of each worker, by its index, as `Metrics.render` writes them.
    """
    comments: dict[str, dict[str, None]] = {}
    samples: dict[str, list[str]] = {}
    for worker, page in pages.items():
        name = ""
        for line in page.decode().split("\n"):
            if line.startswith(_COMMENT):
                name = line.split(" ", 3)[2]
                comments.setdefault(name, {})[line] = None
            elif line:
                samples.setdefault(name, []).append(_labelled(line, worker))
    lines = [line for name, said in comments.items() for line in (*said, *samples.get(name, ()))]
    lines.append("")
    return "\n".join(lines).encode()


def _labelled(line: str, worker: int) -> str:
    label = f'worker="{worker}"'
    name, brace, rest = line.partition("{")
    if brace:
        return f"{name}{{{label},{rest}"
    name, _, figure = line.partition(" ")
    return f"{name}{{{label}}} {figure}"
