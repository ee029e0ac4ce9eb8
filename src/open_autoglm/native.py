"""Whether the request path runs compiled (`native/build.py`) or plain, and whether what is compiled is current.

Invariant: compiled modules that differ from their sources are never run unnoticed: Python prefers them to the sources,
so the server says at its start what to do.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from open_autoglm import ids

MANIFEST: Final = "compiled.json"
_AGAIN: Final = "run `make native` again, or `make native-clean`"


@dataclass(frozen=True, slots=True)
class Form:
    """How this process runs.

    Attributes:
        name: `compiled` or `plain`.
        problem: what is wrong with the compiled modules and what to do; empty when nothing is.
    """

    name: str
    problem: str = ""


@cache
def current_form() -> Form:
    """Look at what this process runs, once. Reads the sources only where something was compiled."""
    return form_of(Path(__file__).parent, compiled=not ids.__file__.endswith(".py"))


def form_of(folder: Path, *, compiled: bool) -> Form:
    """Judge a package.

    Args:
        folder: of the package's modules.
        compiled: whether its modules were loaded in their compiled form.
    """
    manifest = folder / MANIFEST
    if not manifest.exists():
        return Form("compiled", f"compiled modules without {MANIFEST}: {_AGAIN}") if compiled else Form("plain")
    try:
        sources = json.loads(manifest.read_bytes())["sources"]
        changed = [name for name, digest in sources.items() if _digest(folder / name) != digest]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Form("compiled" if compiled else "plain", f"{MANIFEST} cannot be read ({error}): {_AGAIN}")
    if not compiled:
        python = ".".join(map(str, sys.version_info[:2]))
        return Form("plain", f"what was compiled is not for this Python {python}: {_AGAIN}")
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        return Form("compiled", f"{changed[0]}{more} changed after they were compiled, the old ones run: {_AGAIN}")
    return Form("compiled")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
