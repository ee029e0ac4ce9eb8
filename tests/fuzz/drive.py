"""Runs a fuzz target: `python tests/fuzz/drive.py TARGET --inputs 1000000 --seed 1`.

A target is a module of this folder with `fuzz_one(data: bytes) -> None`, which raises when a promise is broken; it may
name words of its format in `TOKENS`. Its corpus is in `corpus/TARGET/`. Inputs are mutations of the corpus; every
fiftieth is looked at closely, and joins the corpus when it takes a step in our code that none took before.
Each input has a time limit. What breaks a target is saved under `--crashes`.

Where atheris is installed, `--engine atheris` lets it choose the inputs, by the coverage of every one of them.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import json
import platform
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.fuzz.mutation import Mutator  # noqa: E402
from tests.fuzz.steps import StepRecorder  # noqa: E402

CORPUS = Path(__file__).parent / "corpus"
OTHER_MODULES = {"drive", "mutation", "steps"}
LOOK_EVERY = 50
"""Recording steps costs about twenty times the input itself."""
CRASHES_MAX = 20

Target = Callable[[bytes], None]


class HangError(Exception):
    """An input took longer than its limit."""


@dataclass
class Report:
    """What a run has shown.

    Attributes:
        inputs: how many were run.
        seconds: wall time.
        corpus, grown: inputs to begin with, and those that joined.
        lines, steps: of our code that were reached.
        crashes: kinds of broken promises, with the file of the first input of each.
    """

    target: str
    engine: str
    seed: int
    inputs: int = 0
    seconds: float = 0.0
    corpus: int = 0
    grown: int = 0
    lines: int = 0
    steps: int = 0
    crashes: dict[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Everything, as it is printed."""
        rate = round(self.inputs / self.seconds) if self.seconds else 0
        return {**self.__dict__, "seconds": round(self.seconds, 1), "rate": rate, "python": platform.python_version()}


def targets() -> list[str]:
    """Names of the targets that exist."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in OTHER_MODULES)


def load(name: str) -> tuple[Target, list[bytes]]:
    """A target and the words of its format."""
    module = importlib.import_module(f"tests.fuzz.{name}")
    tokens = getattr(module, "TOKENS", ())
    return module.fuzz_one, [token if isinstance(token, bytes) else str(token).encode() for token in tokens]


def corpus_of(name: str, folder: Path = CORPUS) -> list[bytes]:
    """Inputs that are kept for a target, in a fixed order."""
    return [path.read_bytes() for path in sorted((folder / name).glob("*")) if path.is_file()]


def run_limited(target: Target, data: bytes, limit_s: float) -> None:
    """Run one input.

    Raises:
        HangError: it took longer than `limit_s`, counted in CPU time: others may use the machine too.
        Exception: whatever the target raises.
    """
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    try:
        target(data)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def inputs_of(mutator: Mutator, corpus: Sequence[bytes], count: int, until_s: float) -> Iterator[bytes]:
    """The corpus itself first, then mutations of it."""
    for number in range(count):
        if number & 0xFF == 0 and time.monotonic() > until_s:
            return
        yield corpus[number] if number < len(corpus) else mutator.next()


def drive(
    name: str, *, inputs: int, seed: int, seconds: float = 1e9, crashes: Path | None = None, grow: Path | None = None
) -> Report:
    """Run a target of this folder on its corpus and mutations of it.

    Args:
        name: of the target.
        inputs: how many; the corpus counts.
        seed: of all choices.
        seconds: to stop after, even before `inputs` were run.
        crashes: folder for inputs that break the target.
        grow: folder for inputs that show something new.
    """
    target, tokens = load(name)
    corpus = corpus_of(name)
    run = Run(target, corpus, Mutator(corpus, tokens, random.Random(seed)), Report(name, "mutation", seed))
    run.crashes, run.grow = crashes, grow
    return run.go(inputs, seconds)


class Run:
    """One run of a target.

    Args:
        target: what to call.
        corpus: run as it is, first.
        mutator: where the other inputs come from.
        report: to fill.

    Attributes:
        limit_s: for one input.
        crashes, grow: see `drive`.
    """

    def __init__(self, target: Target, corpus: Sequence[bytes], mutator: Mutator, report: Report) -> None:
        self.limit_s = 2.0
        self.crashes: Path | None = None
        self.grow: Path | None = None
        self._target = target
        self._corpus = corpus
        self._mutator = mutator
        self._report = report
        self._recorder = StepRecorder()

    def go(self, inputs: int, seconds: float = 1e9) -> Report:
        """Run inputs until there were enough, or too many ways to break the target were found."""
        report = self._report
        report.corpus = len(self._corpus)
        before = signal.signal(signal.SIGPROF, _hang)
        started_s = time.monotonic()
        try:
            for data in inputs_of(self._mutator, self._corpus, inputs, started_s + seconds):
                report.inputs += 1
                try:
                    self._run_one(data)
                except Exception as error:  # the outermost loop: whatever breaks is what we look for
                    _note(report, error, data, self.crashes)
                    if len(report.crashes) >= CRASHES_MAX:
                        break
        finally:
            signal.signal(signal.SIGPROF, before)
        report.seconds = time.monotonic() - started_s
        report.lines, report.steps = self._recorder.lines, len(self._recorder.seen)
        return report

    def _run_one(self, data: bytes) -> None:
        report = self._report
        of_corpus = report.inputs <= len(self._corpus)
        if not of_corpus and report.inputs % LOOK_EVERY:
            run_limited(self._target, data, self.limit_s)
            return
        new = self._recorder.run(lambda data: run_limited(self._target, data, 10 * self.limit_s), data)
        if new and not of_corpus:
            self._mutator.add(data)
            report.grown += 1
            _save(self.grow, data)


def smallest(name: str, folder: Path) -> list[bytes]:
    """Inputs of a folder that together take all the steps that the folder takes, short ones first."""
    target, _ = load(name)
    recorder = StepRecorder()
    inputs = sorted(
        (path.read_bytes() for path in folder.glob("*") if path.is_file()), key=lambda data: (len(data), data)
    )
    kept = [data for data in inputs if recorder.run(target, data)]
    # From the longest back: what a later one shows as well is not needed.
    recorder = StepRecorder()
    return [data for data in reversed(kept) if recorder.run(target, data)]


def _hang(signal_number: int, frame: FrameType | None) -> None:
    raise HangError


def _note(report: Report, error: BaseException, data: bytes, folder: Path | None) -> None:
    last = traceback.extract_tb(error.__traceback__)[-1]
    kind = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
    if kind not in report.crashes:
        report.crashes[kind] = _save(folder, data) or data[:2000].hex()
        print(f"{report.target}: input {report.inputs}: {kind}: {error!s:.200}", file=sys.stderr)


def _save(folder: Path | None, data: bytes) -> str:
    if folder is None:
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return str(path)


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


def _drive_by_atheris(name: str, options: argparse.Namespace) -> None:
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["open_autoglm"]):
        target, tokens = load(name)
    options.crashes.mkdir(parents=True, exist_ok=True)
    words = options.crashes / "words"
    words.write_text("".join(f'"{_escaped(token)}"\n' for token in tokens))
    grow = options.grow or options.crashes / "grown"
    grow.mkdir(parents=True, exist_ok=True)
    flags = [f"-runs={options.inputs}", f"-seed={options.seed}", "-timeout=60", "-max_len=4096"]
    if tokens:
        flags.append(f"-dict={words}")
    flags += [f"-artifact_prefix={options.crashes}/", "-print_final_stats=1", f"-max_total_time={int(options.seconds)}"]
    atheris.Setup([sys.argv[0], *flags, str(grow), str(CORPUS / name)], target)
    atheris.Fuzz()


def main() -> int:
    """Run the target that is named on the command line; 1 when it was broken."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=targets())
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e6)
    parser.add_argument("--engine", choices=("mutation", "atheris"), default="mutation")
    parser.add_argument("--crashes", type=Path, help="default: build/fuzz/TARGET")
    parser.add_argument("--grow", type=Path, help="keep inputs that show something new here")
    parser.add_argument("--smallest", type=Path, help="instead: replace the corpus by the least of this folder")
    options = parser.parse_args()
    options.crashes = options.crashes or ROOT / "build/fuzz" / options.target
    if options.smallest:
        for data in smallest(options.target, options.smallest):
            _save(CORPUS / options.target, data)
        return 0
    if options.engine == "atheris":
        _drive_by_atheris(options.target, options)
        return 0
    gc.freeze()
    report = drive(
        options.target,
        inputs=options.inputs,
        seed=options.seed,
        seconds=options.seconds,
        crashes=options.crashes,
        grow=options.grow,
    )
    print(json.dumps(report.summary()))
    return 1 if report.crashes else 0


if __name__ == "__main__":
    sys.exit(main())
