"""Compiles the modules of the request path with mypyc: `python native/build.py`, `--clean` removes what that made.

The sources stay as they are. Each module named here gets an extension module beside it, which Python prefers to the
source; `compiled.json` keeps the hashes of the sources, for `open_autoglm.native` to compare at each start. The files
are put in place together, after everything was compiled. Decision 0015 says what is compiled and why.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = "open_autoglm"
MANIFEST: Final = "compiled.json"
SHARED: Final = f"{PACKAGE}__mypyc"
"""The extension module that holds the code of all; the others only name its parts."""

MODULES: Final = {
    "": ("ids",),
    "backends": ("backend", "continuing", "http", "node"),
    "client": ("direct_path", "pool", "unary"),
    "dialects": (
        "continuing_relay",
        "document",
        "openai_decoder",
        "openai_reader",
        "openai_reading",
        "openai_relay",
        "openai_unary",
        "relay",
        "splice",
        "sse",
    ),
    "exchange": ("attempt", "attempt_record", "exchange", "line", "plan", "record", "search"),
    "gateway": (
        "affinity",
        "call",
        "door",
        "framed",
        "framed_peer",
        "framed_relay",
        "framed_tally",
        "gateway",
        "member_call",
        "snapshot",
        "tickets",
    ),
    "inference": ("answer", "guest", "served_model", "service", "ticket_ledger"),
    "protocol": (
        "client_connection",
        "codecs",
        "connection",
        "frames",
        "resume",
        "resuming_connection",
        "server_connection",
        "sinks",
        "streams",
    ),
    "resilience": (
        "backoff",
        "breaker",
        "call_window",
        "concurrency_limit",
        "hedge_budget",
        "key_limiter",
        "retry_budget",
        "running_median",
        "sliding_window",
        "throttle",
        "token_bucket",
    ),
    "routing": ("balancers", "endpoint", "group", "hash_ring", "hashing", "panic"),
    "security": ("keys",),
    "server": ("accounts",),
    "telemetry": ("request_line", "series"),
    "transport": (
        "framed_client",
        "framed_server",
        "framed_session",
        "framed_shell",
        "http_answer",
        "http_client",
        "http_connection",
        "http_request",
        "known_head",
        "upstream_connection",
        "websocket",
    ),
}


class BuildError(Exception):
    """Why nothing was compiled, and what to do."""


def sources() -> list[str]:
    """The compiled modules' sources, relative to the folder that holds the package."""
    return [str(Path(PACKAGE, folder, f"{name}.py")) for folder, names in MODULES.items() for name in names]


def build(src: Path, work: Path) -> int:
    """Compile into `work`, then put the extension modules beside the sources of `src`; return how many there are.

    Raises:
        BuildError: something is missing, or a module cannot be compiled.
    """
    files = sources()
    check_tools()
    check_sources(src, files)
    hashes = {file.removeprefix(f"{PACKAGE}/"): digest(src / file) for file in files}
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, __file__, "--compile", str(work), "--src", str(src)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "CFLAGS": os.environ.get("CFLAGS", "-O2")},
    )
    if done.returncode:
        told = [line for line in done.stdout.splitlines() if "error" in line and " -c " not in line]
        raise BuildError("\n".join(told[:20]) or done.stdout[-2000:])
    if any(digest(src / PACKAGE / file) != known for file, known in hashes.items()):
        raise BuildError("a source has changed meanwhile; run it again")
    clean(src)
    made = sorted((work / "lib").rglob("*.so"))
    for path in made:
        shutil.copy2(path, src / path.relative_to(work / "lib"))
    manifest = {"suffix": sysconfig.get_config_var("EXT_SUFFIX"), "sources": hashes}
    (src / PACKAGE / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return len(made)


def clean(src: Path) -> None:
    """Remove every compiled module; the sources alone are left."""
    for path in [*(src / PACKAGE).rglob("*.so"), *src.glob(f"{SHARED}.*.so")]:
        path.unlink()
    (src / PACKAGE / MANIFEST).unlink(missing_ok=True)


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_tools() -> None:
    """See that all tools are there.

    Raises:
        BuildError: one is missing.
    """
    for name in ("mypyc", "setuptools"):
        if importlib.util.find_spec(name) is None:
            raise BuildError(f"{name} is missing: pip install -r requirements/dev.txt")
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if not shutil.which(os.environ.get("CC", compiler).split()[0]):
        raise BuildError(f"no C compiler ({compiler}): apt-get install build-essential")
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        raise BuildError("Python's headers are missing: apt-get install python3-dev")


def check_sources(src: Path, files: Iterable[str]) -> None:
    """See that no module holds what would silently mean something else once it is compiled.

    Raises:
        BuildError: mypyc drops the arguments of a class statement, as msgspec's `frozen=True` or `omit_defaults=True`,
            and a dataclass with slots would be a second class; it passes what follows ** in a call as it is.
    """
    for file in files:
        for node in ast.walk(ast.parse((src / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and (
                node.keywords or any(isinstance(each, ast.Call) for each in node.decorator_list)
            ):
                raise BuildError(f"{file}:{node.lineno}: {node.name} has arguments that the compiler would drop")
            if isinstance(node, ast.Call) and any(each.arg is None for each in node.keywords):
                raise BuildError(f"{file}:{node.lineno}: a call with ** would pass other arguments once compiled")


def compile_modules(work: Path, src: Path) -> None:
    """Compile into `work`/lib. In a process of its own: mypyc ends the process when it finds an error."""
    from mypyc.build import mypycify
    from setuptools import setup

    os.chdir(src)
    extensions = mypycify(
        ["--strict", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(work / "cache"), *sources()],
        opt_level="2",
        debug_level="0",
        group_name=PACKAGE,
        target_dir=str(work),
    )
    folders = [f"--build-lib={work / 'lib'}", f"--build-temp={work / 'objects'}"]
    setup(name=PACKAGE, ext_modules=extensions, packages=[], py_modules=[], script_args=["build_ext", *folders])


def main() -> int:
    """Do what was typed; return an exit code."""
    parser = argparse.ArgumentParser(description="Compile the modules of the request path, or remove what that made.")
    parser.add_argument("--clean", action="store_true", help="remove the compiled modules")
    parser.add_argument("--src", type=Path, default=ROOT / "src", help="the folder that holds the package")
    parser.add_argument("--compile", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    src = options.src.resolve()
    if options.compile:
        compile_modules(options.compile, src)
    elif options.clean:
        clean(src)
    else:
        try:
            count = build(src, src.parent / "build" / "native")
        except BuildError as error:
            print(f"native/build.py: {error}", file=sys.stderr)
            return 1
        print(f"{count} extension modules beside their sources in {src / PACKAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
