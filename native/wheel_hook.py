"""A wheel with the compiled modules: `make native`, then `OPEN_AUTOGLM_COMPILED=1 python -m build --wheel`.

Without that variable the wheel is the plain one, whatever was compiled here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledWheel(BuildHookInterface):  # type: ignore[type-arg]
    """See the module."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the compiled modules, and name the platform that they are for."""
        if os.environ.get("OPEN_AUTOGLM_COMPILED") != "1":
            return
        src = Path(self.root, "src")
        manifest = src / "open_autoglm" / "compiled.json"
        if not manifest.exists():
            raise FileNotFoundError(f"{manifest} is missing: run `make native` first")
        made = [manifest, *src.glob("open_autoglm__mypyc.*.so"), *(src / "open_autoglm").rglob("*.so")]
        build_data["force_include"].update({str(path): str(path.relative_to(src)) for path in made})
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
