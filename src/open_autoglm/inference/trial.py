"""Loads a version in a process of its own first: one that brings a library down does not bring the node down.

The process has a deadline, a bound of memory, no accelerator and none of the node's secrets; it loads the version and
computes a few passes, and says on its last line what was wrong. Whatever else ends it is a refusal too.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import msgspec

from open_autoglm.errors import AutoGLMError
from open_autoglm.inference.folder_versions import load, needed_bytes
from open_autoglm.inference.model_store import StoredVersion
from open_autoglm.inference.settings import EngineSettings
from open_autoglm.rollout.manifest import Manifest
from open_autoglm.rollout.refusal import Reason, UpdateRefused

DEADLINE_S: Final = 600.0
"""Much longer than a disk takes for what a machine's memory holds."""
_LIBRARIES_BYTES: Final = 16 << 30
"""Of addresses, not of memory: PyTorch and the stacks of its threads take some before a model is loaded."""
_KEPT: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)
"""Of the environment; no secret is among it."""
_COMMAND: Final = (sys.executable, "-m", "open_autoglm.inference.trial")


class Verdict(msgspec.Struct):
    """What the process says at its end; an empty reason is none."""

    reason: str = ""
    message: str = ""


class Asked(msgspec.Struct):
    """What the process is told, on its standard input.

    Attributes:
        path: folder of the version.
        manifest: of the version, which was verified.
        name: of the model.
        threads: of the library.
        memory_bytes: of addresses that it may use.
    """

    path: str
    manifest: Manifest
    name: str
    threads: int
    memory_bytes: int


def try_apart(
    stored: StoredVersion,
    name: str,
    settings: EngineSettings,
    *,
    deadline_s: float = DEADLINE_S,
    memory_bytes: int = 0,
    command: Sequence[str] = _COMMAND,
) -> None:
    """Load a version in another process, and wait for its end; blocks.

    Args:
        stored: verified.
        name: of the model.
        settings: of the engine.
        deadline_s: the process is killed afterwards.
        memory_bytes: of addresses; 0 for what the version needs, and the libraries.
        command: that starts the process.

    Raises:
        UpdateRefused: what the process found; `format` when it crashed or took too long.
    """
    bound = memory_bytes or _LIBRARIES_BYTES + 2 * needed_bytes(stored.manifest)
    asked = Asked(str(stored.path.resolve()), stored.manifest, name, settings.threads, bound)
    environment = {each: os.environ[each] for each in _KEPT if each in os.environ}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command,
            input=msgspec.json.encode(asked),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=deadline_s,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UpdateRefused("format", f"loading the version took longer than {deadline_s:g} s") from error
    except OSError as error:
        raise UpdateRefused("format", f"the version cannot be tried: {error.strerror or error}") from error
    try:
        verdict = msgspec.json.decode(done.stdout, type=Verdict)
    except msgspec.DecodeError as error:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
        raise UpdateRefused("format", f"the process that tried the version ended by {how}") from error
    if verdict.reason:
        raise UpdateRefused(cast(Reason, verdict.reason), verdict.message)


def main() -> None:
    """The process: load, compute, and say what was found."""
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    told = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is no verdict
    resource.setrlimit(resource.RLIMIT_AS, (asked.memory_bytes, asked.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    verdict = Verdict()
    try:
        with StoredVersion(Path(asked.path), None, asked.manifest) as stored:
            load(stored, asked.name, EngineSettings(threads=asked.threads))
    except UpdateRefused as error:
        verdict = Verdict(error.reason, error.message)
    except MemoryError:
        verdict = Verdict("memory", f"it takes more than {asked.memory_bytes} bytes of addresses")
    except (AutoGLMError, ValueError, KeyError, TypeError) as error:
        verdict = Verdict("format", f"the engine cannot use the version: {error}")
    os.write(told, msgspec.json.encode(verdict))


if __name__ == "__main__":
    main()
