"""`autoglm bench`: load a server step by step, find the knee, draw it."""

from __future__ import annotations

import asyncio
import json
import ssl
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from open_autoglm.cli.arguments import count, wait_s
from open_autoglm.cli.conversation import model_names
from open_autoglm.cli.data import add_data_options, find_data
from open_autoglm.cli.failure import DONE, FAILED, WRONG_USAGE, CommandFailed
from open_autoglm.cli.http_call import Target
from open_autoglm.cli.terminal import Terminal

if TYPE_CHECKING:
    from open_autoglm.cli.load.connection import Question
    from open_autoglm.cli.load.step import Step

CONCURRENCY_MAX = 1024
SECONDS_MAX = 60.0
CLIENT_BUSY = 0.7
"""Above this share of a core it is the client that is measured."""

_HEAD = ("connections", "answers/s", "tokens/s", "first ms", "p50 ms", "p99 ms", "client CPU", "failed")


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument("--model", metavar="NAME", help="who is asked; default: the first that the server lists")
    parser.add_argument(
        "--prompt", metavar="TEXT", default="What is 274 + 658?", help="what is asked, default %(default)r"
    )
    parser.add_argument(
        "--max-tokens", metavar="COUNT", type=count, default=64, help="longest answer, default %(default)s"
    )
    parser.add_argument("--stream", action="store_true", help="ask for streams; then `first` is the first token")
    parser.add_argument(
        "--seconds", metavar="SECONDS", type=float, default=3.0, help="of each step, default %(default)g"
    )
    parser.add_argument(
        "--max-concurrency",
        metavar="COUNT",
        type=count,
        default=64,
        help="most connections, default %(default)s",
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=wait_s, default=60.0, help="for one answer, default %(default)g"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    add_data_options(parser)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Measure; exit code 1 when nothing was answered well."""
    if not 1 <= arguments.max_concurrency <= CONCURRENCY_MAX:
        raise CommandFailed(
            f"--max-concurrency is 1 to {CONCURRENCY_MAX}, not {arguments.max_concurrency}", WRONG_USAGE
        )
    if not 0.1 <= arguments.seconds <= SECONDS_MAX:
        raise CommandFailed(f"--seconds is 0.1 to {SECONDS_MAX:g}, not {arguments.seconds:g}", WRONG_USAGE)
    target = find_data(arguments, terminal)
    names = [arguments.model] if arguments.model else model_names(target)
    if not names:
        raise CommandFailed("the server lists no model that this key may use; name one with --model")
    steps = _measure(question_of(target, names[0], arguments), arguments, terminal)
    return _report(steps, names[0], arguments, terminal)


def question_of(target: Target, model: str, arguments: Namespace) -> Question:
    """Write the request that is sent again and again."""
    from open_autoglm.cli.load.connection import Question

    address = target.address
    fields: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": arguments.prompt}]}
    fields["max_tokens"] = arguments.max_tokens
    if arguments.stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps(fields, ensure_ascii=False).encode()
    host = f"[{address.host}]" if ":" in address.host else address.host
    head = [
        f"POST {address.base_path}/v1/chat/completions HTTP/1.1",
        f"host: {host}:{address.port}",
        "content-type: application/json",
        f"content-length: {len(body)}",
    ]
    if target.key is not None:
        head.append(f"authorization: Bearer {target.key.reveal()}")
    tls = ssl.create_default_context(cafile=target.ca) if address.tls else None
    return Question(address.host, address.port, tls, "\r\n".join([*head, "", ""]).encode() + body, arguments.stream)


def _measure(question: Question, arguments: Namespace, terminal: Terminal) -> list[Step]:
    """Run the steps one after the other; each is shown when it is done."""
    from open_autoglm.cli.load.knee import has_passed, ramp
    from open_autoglm.cli.load.step import run_step

    if not arguments.json:
        terminal.line(terminal.styled("  ".join(f"{title:>11}" for title in _HEAD), "bold"))
    steps: list[Step] = []
    with asyncio.Runner() as runner:
        for concurrency in ramp(arguments.max_concurrency):
            step = runner.run(run_step(question, concurrency, arguments.seconds, arguments.timeout))
            steps.append(step)
            if not arguments.json:
                terminal.line(_row(step))
                terminal.out.flush()
            if has_passed(steps):
                break
    return steps


def _row(step: Step) -> str:
    cells = (
        f"{step.concurrency}",
        f"{step.rate:.1f}",
        f"{step.tokens_per_s:.0f}" if step.tokens_per_s else "-",
        f"{step.first_p50_ms:.1f}" if step.good else "-",
        f"{step.p50_ms:.1f}" if step.good else "-",
        f"{step.p99_ms:.1f}" if step.good else "-",
        f"{step.client_cpu * 100:.0f} %",
        f"{step.failed}",
    )
    return "  ".join(f"{cell:>11}" for cell in cells)


def _report(steps: list[Step], model: str, arguments: Namespace, terminal: Terminal) -> int:
    from open_autoglm.cli.load.knee import KNEE_SHARE, knee_of
    from open_autoglm.cli.load.picture import draw

    knee = knee_of(steps)
    if arguments.json:
        told = {"model": model, "knee": knee.concurrency if knee else None, "steps": [asdict(step) for step in steps]}
        terminal.json(told)
        return DONE if knee else FAILED
    for warning in warnings_of(steps):
        terminal.warn(warning)
    if knee is None:
        terminal.error("no step was answered well, so there is no knee; the last column counts what failed")
        return FAILED
    terminal.line()
    for line in draw(steps, knee, terminal.width):
        terminal.line(line)
    terminal.line()
    connections = f"{knee.concurrency} connection{'s' if knee.concurrency != 1 else ''}"
    terminal.line(
        f"The knee: {connections}, {knee.rate:.1f} answers per second, {knee.p50_ms:.1f} ms at the "
        f"median; the fewest connections that reach {KNEE_SHARE:.0%} of the highest rate."
    )
    terminal.line(
        "Each connection asks again when it has its answer (a closed loop): a crowd that does not wait queues longer."
    )
    return DONE


def warnings_of(steps: list[Step]) -> list[str]:
    """Say what makes the figures other than they seem."""
    warnings = []
    failures: dict[str, int] = {}
    for step in steps:
        for name, times in step.failures.items():
            failures[name] = failures.get(name, 0) + times
    if failures:
        told = ", ".join(f"{times} times {name}" for name, times in sorted(failures.items(), key=lambda each: -each[1]))
        warnings.append(f"questions that failed: {told}")
    if "status 429" in failures:
        warnings.append(
            "the server limits this key (limits.requests_per_second, 100 by default); the knee is that limit's"
        )
    busy = max((step.client_cpu for step in steps), default=0.0)
    if busy > CLIENT_BUSY:
        warnings.append(f"this client used up to {busy:.0%} of a core: the server may be faster than it can ask")
    return warnings
