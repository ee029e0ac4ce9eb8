"""Measures a shipped model on the held-out sets, with the shipped runtime and its engine.

    python -m training.evaluate glm-nano --out training/results/glm-nano.json

Needs numpy only. An answer counts when it is exactly the expected one: the number, the label, the JSON. A sum
that the calculator answered in the model's place does not count.
"""

from __future__ import annotations

import argparse
import json
import math
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

from open_autoglm.engines.embedded import catalog
from open_autoglm.engines.engine import Engine
from open_autoglm.engines.events import (
    Failed,
    GenerateEvent,
    GenerateRequest,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    Usage,
)

HELD_OUT = Path(__file__).parent / "heldout"
NANO_SETS = ("arithmetic-4", "intent", "intent-unseen", "intent-hand", "tool", "tool-new", "plan", "plan-new", "result")
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("calculator", "weather", "convert")]
ANSWER_TIMEOUT_S = 60.0


class Answer:
    """Collects the events of one request."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.text = ""
        self.reasoning = ""
        self.call: ToolCall | None = None
        self.tokens = 0

    def deliver(self, events: list[GenerateEvent]) -> None:
        """Takes events in the engine's thread."""
        for event in events:
            match event:
                case TextDelta(text):
                    self.text += text
                case ReasoningDelta(text):
                    self.reasoning += text
                case ToolCall():
                    self.call = event
                case Usage(_, written):
                    self.tokens = written
                    self.done.set()
                case Failed(code, message):
                    self.text = f"{code}: {message}"
                    self.done.set()

    def matches(self, item: dict[str, Any]) -> bool:
        """Whether this is the expected answer."""
        if not self.done.wait(ANSWER_TIMEOUT_S) or self.reasoning.startswith(("calculator", "guard")):
            return False
        if item["task"] != "tool":
            return self.text == item["answer"]
        expected = json.loads(item["answer"])
        call = self.call
        return call is not None and (call.name, json.loads(call.arguments)) == (
            expected["name"],
            expected["arguments"],
        )


def request_of(item: dict[str, Any]) -> GenerateRequest:
    """The request that asks a held-out item."""
    messages = [{"role": "user", "content": item["prompt"]}]
    if item["system"] in ("intent", "plan"):
        messages.insert(0, {"role": "system", "content": item["system"]})
    if item["system"] == "result":
        question = "算" if item["prompt"].startswith("结果：") else "ask"
        shown = item["prompt"].removeprefix("结果：")
        messages = [{"role": "user", "content": question}, {"role": "tool", "content": shown}]
    return GenerateRequest(messages, tools=TOOLS if item["system"] == "tools" else None)


def read_set(name: str) -> list[dict[str, Any]]:
    """Items of a held-out set."""
    return [json.loads(line) for line in (HELD_OUT / f"{name}.jsonl").read_text().splitlines()]


def measure(engine: Engine, items: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Accuracy on a set, by kind too, and the answers that were wrong."""
    right: dict[str, list[bool]] = defaultdict(list)
    wrong: list[dict[str, str]] = []
    tokens = 0
    for start in range(0, len(items), 128):
        part = items[start : start + 128]
        answers = [Answer() for _ in part]
        for item, answer in zip(part, answers, strict=True):
            engine.submit(request_of(item), answer.deliver)
        for item, answer in zip(part, answers, strict=True):
            correct = answer.matches(item)
            tokens += answer.tokens
            for kind in ("all", *_kinds(item)):
                right[kind].append(correct)
            if not correct:
                said = str(answer.call) if answer.call else answer.text
                wrong.append({"id": item["id"], "prompt": item["prompt"], "answer": item["answer"], "said": said})
    kinds = {kind: {"items": len(hits), "accuracy": round(sum(hits) / len(hits), 4)} for kind, hits in right.items()}
    low, high = interval(sum(right["all"]), len(items))
    whole = {**kinds.pop("all"), "interval_95": [low, high], "tokens_per_answer": round(tokens / len(items), 1)}
    return {**whole, "by_kind": dict(sorted(kinds.items()))}, wrong


def _kinds(item: dict[str, Any]) -> list[str]:
    if item["task"] == "arithmetic":
        return [f"operation {item['operation']}", f"digits {item['digits']}"]
    if item["task"] == "tool":
        return [json.loads(item["answer"])["name"]]
    return [item["answer"]] if item["task"] == "intent" else []


def interval(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, share = 1.96, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return round(middle - half, 4), round(middle + half, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=catalog.names())
    parser.add_argument("--version", default=None)
    parser.add_argument("--sets", default="", help="names of held-out sets; default: all that the model is for")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--wrong", type=int, default=0, help="wrong answers to print per set")
    options = parser.parse_args()
    manifest = catalog.read_manifest(options.name, options.version)
    sets = options.sets.split(",") if options.sets else NANO_SETS if "plan" in manifest.tasks else ("arithmetic-3",)
    engine = Engine(catalog.open_model(options.name, options.version), slots=16, queue_max=256)
    engine.start()
    results: dict[str, Any] = {}
    try:
        for name in sets:
            results[name], wrong = measure(engine, read_set(name))
            print(f"{options.name} {name}: {results[name]['accuracy']:.4f} of {results[name]['items']}")
            for answer in wrong[: options.wrong]:
                print("   ", answer)
    finally:
        engine.close()
    if options.out:
        head = {"model": options.name, "version": manifest.version, "sha256": manifest.sha256["model.safetensors"]}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({**head, "sets": results}, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
