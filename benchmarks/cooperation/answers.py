"""Asks every shipped model every held-out task that it can do, and keeps what it said.

    python -m benchmarks.cooperation.answers              writes benchmarks/results/cooperation/answers.jsonl.xz
    python -m benchmarks.cooperation.answers --missing    asks only what the table does not have yet
    python -m benchmarks.cooperation.answers --again greedy    takes the latencies anew, on a quiet machine
    python -m benchmarks.cooperation.answers --check      asks a part again and says whether the answers are the same

| way | the model is asked |
|---|---|
| `greedy` | as it stands, one question at a time, which gives the latency |
| `worded-1` … `worded-4` | the same with other words around it |
| `seed-1` … `seed-8` | as it stands, at temperature 0.7 |
| `tool` (sums) | with the calculator on offer; the expression that it writes is computed exactly |
| `columns` (sums) | as it stands; what it writes down in its thinking is computed exactly, see `recompute` |
| `direct` (plans) | for the result at once, not for a plan |

Answers and confidences follow from the frozen models; only the latencies are of the machine. Nothing here looks at the
right answers, but to write a 0 in their place.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from training.evaluate import TOOLS, read_set, request_of

from benchmarks.cooperation.recompute import computed, recomputed
from open_autoglm.engines.embedded import catalog
from open_autoglm.engines.embedded.calculator import is_chinese
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import (
    Failed,
    GenerateEvent,
    GenerateRequest,
    ReasoningDelta,
    TextDelta,
    TokenScore,
    ToolCall,
    Usage,
)

ROOT: Final = Path(__file__).resolve().parents[2]
TABLE: Final = ROOT / "benchmarks" / "results" / "cooperation" / "answers.jsonl.xz"
SUMS: Final = ("arithmetic-3", "arithmetic-3-calibration")
NANO: Final = (
    *SUMS, "arithmetic-4", "intent", "intent-unseen", "intent-hand", "tool", "tool-new", "plan", "plan-new", "result"
)  # fmt: skip
MODELS: Final = {name: NANO if name == "glm-nano" else SUMS for name in catalog.names()}
WORDINGS: Final = 4
SEEDS: Final = 8
TEMPERATURE: Final = 0.7
SAMPLED: Final = ("glm-nano", "glm-calc-s")
"""Models that are asked with seeds; the others are asked greedily and in other words."""
BATCH: Final = 16
CHECKED: Final = 64
_ENGLISH: Final = ("please {}", "{}", "can you tell me {}", "So, {}")
_CHINESE: Final = ("请问{}", "{}", "你好，{}", "我想知道{}")
_TENTHS: Final = 10_000
"""Probabilities are kept as whole numbers of this part."""


@dataclass(slots=True)
class Run:
    """Answers of one model to one set, asked in one way; the lists have an entry for each item.

    Attributes:
        answers: 0 for the right one, else what was said.
        mean, least, product: of the probabilities of the tokens, thinking included, 0 to 10,000.
        tokens: that were written.
        latency_us: from the question to the end, alone on one core; empty for other ways than `greedy`.
    """

    set: str
    model: str
    way: str
    answers: list[int | str] = field(default_factory=list)
    mean: list[int] = field(default_factory=list)
    least: list[int] = field(default_factory=list)
    product: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    latency_us: list[int] = field(default_factory=list)


class Reply:
    """Collects the events of one answer."""

    def __init__(self) -> None:
        self.text = ""
        self.thinking = ""
        self.logprobs: list[float] = []
        self.tokens = 0
        self.over = False

    def deliver(self, events: list[GenerateEvent]) -> None:
        """Take events."""
        for event in events:
            match event:
                case TextDelta(text):
                    self.text += text
                case ReasoningDelta(text):
                    self.thinking += text
                case TokenScore(_, logprob):
                    self.logprobs.append(logprob)
                case ToolCall(name=name, arguments=arguments):
                    call = {"name": name, "arguments": json.loads(arguments)}
                    self.text = json.dumps(call, ensure_ascii=False, separators=(",", ":"))
                case Usage(completion_tokens=tokens):
                    self.tokens, self.over = tokens, True
                case Failed(code, message):
                    raise RuntimeError(f"{code}: {message}")


def worded(prompt: str, number: int) -> str:
    """The same question with other words around it, `number` 1 to 4; the second only gains or loses a question mark."""
    chinese = is_chinese(prompt)
    if number == 2:
        mark = "？" if chinese else "?"
        return prompt.rstrip("?？ ") if prompt.endswith(("?", "？")) else prompt + mark
    if not chinese and number < 4:
        prompt = prompt[:1].lower() + prompt[1:]
    return (_CHINESE if chinese else _ENGLISH)[number - 1].format(prompt)


def called(call: str) -> str:
    """What the calculator says to a model's call of it; empty when it is none, or one that cannot be computed."""
    try:
        return computed(str(json.loads(call)["arguments"]["expression"]))
    except (ValueError, KeyError, TypeError):
        return ""


def ways_of(model: str, name: str) -> list[str]:
    """In which ways a model is asked a set."""
    ways = ["greedy", *(f"worded-{number}" for number in range(1, WORDINGS + 1))]
    if model in SAMPLED:
        ways += [f"seed-{number}" for number in range(1, SEEDS + 1)]
    if name.startswith("arithmetic"):
        ways.append("columns")
        if model == "glm-nano":
            ways.append("tool")
    if name.startswith("plan"):
        ways.append("direct")
    return ways


def asked(item: dict[str, Any], way: str) -> GenerateRequest:
    """The request for an item in a way."""
    kind, _, number = way.partition("-")
    if kind == "worded" and item["system"] != "result":
        item = {**item, "prompt": worded(item["prompt"], int(number))}
    request = msgspec.structs.replace(request_of(item), top_logprobs=0)
    if kind == "seed":
        return msgspec.structs.replace(request, temperature=TEMPERATURE, seed=int(number))
    if kind == "direct":
        return msgspec.structs.replace(request, messages=request.messages[-1:])
    return msgspec.structs.replace(request, tools=TOOLS[:1]) if kind == "tool" else request


def ask(engine: Engine, items: list[dict[str, Any]], run: Run, batch: int) -> None:
    """Ask `batch` items at a time, in order; the engine's turns are ours, so the same items share the same passes."""
    read = _READ.get(run.way, _said)
    for start in range(0, len(items), batch):
        part = items[start : start + batch]
        replies = [Reply() for _ in part]
        began_s = time.perf_counter()
        for item, reply in zip(part, replies, strict=True):
            engine.submit(asked(item, run.way), reply.deliver)
        while not all(reply.over for reply in replies):
            engine.turn()
        took_us = round((time.perf_counter() - began_s) * 1e6)
        for item, reply in zip(part, replies, strict=True):
            text = read(reply)
            run.answers.append(0 if text == item["answer"] else text)
            chances = [math.exp(logprob) for logprob in reply.logprobs] or [1.0]  # none: the guard computed it
            run.mean.append(round(_TENTHS * math.fsum(chances) / len(chances)))
            run.least.append(round(_TENTHS * min(chances)))
            run.product.append(round(_TENTHS * math.prod(chances)))
            run.tokens.append(reply.tokens)
            if batch == 1:
                run.latency_us.append(took_us)


def _said(reply: Reply) -> str:
    return reply.text


_READ: Final[dict[str, Callable[[Reply], str]]] = {
    "tool": lambda reply: called(reply.text),
    "columns": lambda reply: recomputed(reply.thinking),
}
"""What counts as the answer, for ways in which it is not the text."""


def made(limit: int | None = None, known: Sequence[Run] = ()) -> Iterator[Run]:
    """Ask everything but what is known; `limit` items of each set at most. In any case the order is the same."""
    kept = {(run.set, run.model, run.way): run for run in known}
    for model, names in MODELS.items():
        single, together = (Engine(catalog.open_model(model), slots=slots) for slots in (1, BATCH))
        for name in names:
            items = read_set(name)[:limit]
            for way in ways_of(model, name):
                if (name, model, way) in kept:
                    yield kept[name, model, way]
                    continue
                run = Run(name, model, way)
                alone = way == "greedy"
                ask(single if alone else together, items, run, 1 if alone else BATCH)
                yield run


def head() -> dict[str, Any]:
    """What the answers follow from, and the machine that the latencies are of."""
    models = {name: catalog.read_manifest(name).sha256["model.safetensors"] for name in MODELS}
    sets = {name: hashlib.sha256((ROOT / f"training/heldout/{name}.jsonl").read_bytes()).hexdigest() for name in NANO}
    machine = {"system": platform.system(), "machine": platform.machine(), "python": platform.python_version()}
    return {"models": models, "sets": sets, "temperature": TEMPERATURE, "machine": machine}


def read_runs(path: Path = TABLE) -> tuple[dict[str, Any], list[Run]]:
    """Head and runs of a table."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        first, *rest = file.read().splitlines()
    return json.loads(first), [Run(**json.loads(line)) for line in rest]


def write(path: Path, known: Sequence[Run]) -> None:
    """Ask everything but what is known, and write the table."""
    lines = [json.dumps(head())]
    for run in made(known=known):
        fields = {name: getattr(run, name) for name in Run.__slots__}
        lines.append(json.dumps(fields, ensure_ascii=False, separators=(",", ":")))
        right = sum(answer == 0 for answer in run.answers)
        print(f"{run.model} {run.set} {run.way}: {right} of {len(run.answers)}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9))
    print(f"wrote {path}, {path.stat().st_size:,} bytes")


def known_runs(path: Path) -> list[Run]:
    """Runs of a table of the same models and sets."""
    first, kept = read_runs(path)
    now = head()
    if any(first[name] != now[name] for name in ("models", "sets")):
        raise SystemExit("the table is of other models or other sets; write it anew")
    return kept


def check(path: Path) -> int:
    """Ask the first items of each set again; return how many answers differ from the table's."""
    kept = known_runs(path)
    differing = 0
    for old, new in zip(kept, made(CHECKED), strict=True):
        assert (old.set, old.model, old.way) == (new.set, new.model, new.way)
        differing += sum(one != two for one, two in zip(old.answers, new.answers, strict=False))
    print(f"{differing} answers differ")
    return differing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--missing", action="store_true", help="ask only what the table does not have yet")
    parser.add_argument("--again", default="", metavar="WAY", help="ask this way anew, and what is missing")
    parser.add_argument("--check", action="store_true", help="ask a part again and compare")
    options = parser.parse_args()
    if options.check:
        raise SystemExit(1 if check(options.out) else 0)
    keeps = options.missing or options.again
    known = [run for run in known_runs(options.out) if run.way != options.again] if keeps else []
    write(options.out, known)


if __name__ == "__main__":
    main()
