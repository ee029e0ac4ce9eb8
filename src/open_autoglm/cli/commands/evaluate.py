"""`autoglm evaluate`: how often models and teams of models are right, at what cost, and what a team could gain."""

from __future__ import annotations

import contextlib
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from open_autoglm.cli.arguments import count, wait_s
from open_autoglm.cli.data import add_data_options, find_data
from open_autoglm.cli.failure import DONE, FAILED, INTERRUPTED, WRONG_USAGE, CommandFailed
from open_autoglm.cli.http_call import Target, call, error_message
from open_autoglm.cli.table import print_table
from open_autoglm.cli.terminal import Terminal

if TYPE_CHECKING:
    from open_autoglm.cli.evaluate.asking import Outcome, Price, Questioner
    from open_autoglm.cli.evaluate.summary import Report
    from open_autoglm.cli.evaluate.task import Task
    from open_autoglm.cli.evaluate.tuning import Tuning

CONCURRENCY_MAX = 64
FAILURES_MAX = 20
"""One after the other without an answer in between: the server is gone, or the key is wrong."""

_HELD_OUT = Path("training", "heldout")
_NOTE_EVERY = 200


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument(
        "tasks",
        metavar="FILE",
        nargs="*",
        help="tasks as JSON lines with prompt, answer and checker (number, exact, json, contains, choice); "
        "default: the held-out sums of the models that ship, in a checkout of the sources",
    )
    parser.add_argument("--models", metavar="NAMES", help="who is asked, with commas between; default: all listed")
    parser.add_argument(
        "--teams", metavar="NAMES", default="", help="which of them are virtual models, with commas between"
    )
    parser.add_argument(
        "--demo", action="store_true", help="ask a server of its own, with the models that ship and teams of them"
    )
    parser.add_argument("--limit", metavar="COUNT", type=count, help="tasks of each file, the first ones")
    parser.add_argument(
        "--concurrency", metavar="COUNT", type=count, default=4, help="questions at once, default %(default)s"
    )
    parser.add_argument("--max-tokens", metavar="COUNT", type=count, help="longest answer; default: the model's")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=wait_s, default=60.0, help="for one answer, default %(default)g"
    )
    parser.add_argument(
        "--price",
        metavar="MODEL=IN/OUT",
        type=_price,
        action="append",
        default=[],
        help="money for a million tokens read and written; may be given for each model",
    )
    parser.add_argument(
        "--tune",
        metavar="SHARE",
        type=_share,
        help="find the cheapest cascade of the single models that has at most this share of wrong answers, with 95 %% "
        "confidence, and print its configuration; models must tell log probabilities",
    )
    parser.add_argument("--log", metavar="FILE", help="keep the answers there; those that it has are not asked again")
    parser.add_argument("--plot", metavar="FILE.svg", help="draw accuracy and latency")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    add_data_options(parser)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Evaluate; exit code 1 when nothing was answered, 130 when Ctrl-C ended it early."""
    from open_autoglm.cli.evaluate.asking import Questioner
    from open_autoglm.cli.evaluate.summary import report_of

    if arguments.concurrency > CONCURRENCY_MAX:
        raise CommandFailed(f"--concurrency is 1 to {CONCURRENCY_MAX}, not {arguments.concurrency}", WRONG_USAGE)
    if arguments.plot and not arguments.plot.endswith(".svg"):
        raise CommandFailed(f"--plot {arguments.plot!r}: pictures are SVG; name a file that ends so", WRONG_USAGE)
    tasks = _tasks(arguments)
    with ExitStack() as stack:
        target = stack.enter_context(_demo()) if arguments.demo else find_data(arguments, terminal)
        models, teams = _models(target, arguments)
        asker = Questioner(
            target, arguments.timeout, dict(arguments.price), arguments.max_tokens, set(), frozenset(teams)
        )
        outcomes, interrupted = _ask(asker, models, tasks, arguments, terminal)
    if not outcomes:
        raise CommandFailed("nothing was asked, so there is nothing to tell")
    report = report_of(tasks, outcomes, teams, len(models) * len(tasks))
    tuning = None if arguments.tune is None else _tuning(tasks, outcomes, teams, arguments.tune)
    if arguments.plot:
        from open_autoglm.cli.evaluate.picture import draw

        Path(arguments.plot).write_text(draw(report), encoding="utf-8")
    if arguments.json:
        import msgspec

        found = {} if tuning is None else {"tuning": msgspec.to_builtins(tuning)}
        terminal.json({**msgspec.to_builtins(report), **found})
    else:
        _print(report, terminal)
        if tuning is not None:
            _print_tuning(tuning, terminal)
    if interrupted:
        return INTERRUPTED
    return DONE if any(not outcome.failure for outcome in outcomes) else FAILED


def _tasks(arguments: Namespace) -> list[Task]:
    from open_autoglm.cli.evaluate.task import read_tasks

    paths = [Path(name) for name in arguments.tasks] or [_HELD_OUT / "arithmetic-3.jsonl"]
    if not arguments.tasks and not paths[0].exists():
        raise CommandFailed("name a file of tasks; the held-out sets are in a checkout of the sources", WRONG_USAGE)
    tasks = [task for path in paths for task in read_tasks(path, arguments.limit)]
    if len({task.id for task in tasks}) < len(tasks):
        raise CommandFailed("two tasks have the same id; give each its own", WRONG_USAGE)
    return tasks


def _models(target: Target, arguments: Namespace) -> tuple[list[str], frozenset[str]]:
    """Who is asked, and which of them are teams."""
    answer = call(target, "GET", "/v1/models")
    body = answer.json()
    if answer.status != 200 or not isinstance(body, dict):
        raise CommandFailed(f"{target.address} does not list its models: {error_message(body) or answer.status}")
    listed = [entry for entry in body.get("data", []) if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    names = [entry["id"] for entry in listed]
    teams = set(filter(None, arguments.teams.split(",")))
    if arguments.demo:
        from open_autoglm.cli.evaluate.own_server import TEAMS

        teams |= TEAMS.keys()
    chosen = list(dict.fromkeys(filter(None, arguments.models.split(",")))) if arguments.models else names
    unknown = [name for name in [*chosen, *arguments.teams.split(",")] if name and name not in names]
    if unknown:
        raise CommandFailed(f"the server lists no {unknown[0]!r}; it has: {', '.join(names)}", WRONG_USAGE)
    if not chosen:
        raise CommandFailed("the server lists no model that this key may use")
    return chosen, frozenset(teams)


def _ask(
    asker: Questioner, models: Sequence[str], tasks: Sequence[Task], arguments: Namespace, terminal: Terminal
) -> tuple[list[Outcome], bool]:
    """Ask what is left to ask; return all outcomes, and whether Ctrl-C ended it early."""
    from open_autoglm.cli.evaluate.asking import ask_all, digest_of, read_log

    kept = read_log(Path(arguments.log)) if arguments.log else {}
    outcomes: list[Outcome] = []
    left = []
    for model in models:
        for task in tasks:
            known = kept.get((model, digest_of(task)))
            if known is None:
                left.append((model, task))
            else:
                outcomes.append(known)
    if outcomes:
        terminal.note(f"{len(outcomes)} answers are in {arguments.log}, {len(left)} are asked for")
    watch = _Watch(terminal, outcomes, len(outcomes) + len(left))
    try:
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(open(arguments.log, "a", encoding="utf-8")) if arguments.log else None
            ask_all(asker.ask, left, arguments.concurrency, log, watch.take)
    except KeyboardInterrupt:
        terminal.note("stopped; these are the figures so far")
        return outcomes, True
    return outcomes, False


class _Watch:
    """Takes outcomes, says how far it is, and ends what cannot succeed."""

    def __init__(self, terminal: Terminal, outcomes: list[Outcome], planned: int) -> None:
        self._terminal = terminal
        self._outcomes = outcomes
        self._planned = planned
        self._failures = 0

    def take(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._failures = self._failures + 1 if outcome.failure else 0
        if self._failures >= FAILURES_MAX:
            raise CommandFailed(f"{FAILURES_MAX} questions in a row were not answered, the last: {outcome.failure}")
        if len(self._outcomes) % _NOTE_EVERY == 0:
            self._terminal.note(f"{len(self._outcomes)} of {self._planned}")


@contextlib.contextmanager
def _demo() -> Iterator[Target]:
    """A server of its own with the models that ship, for as long as the context lasts."""
    from open_autoglm.cli.evaluate.own_server import own_server

    with own_server() as target:
        yield target


def _price(text: str) -> tuple[str, Price]:
    from open_autoglm.cli.evaluate.asking import Price

    model, _, money = text.rpartition("=")
    read, _, written = money.partition("/")
    try:
        price = Price(float(read), float(written or read))
    except ValueError:
        price = Price(-1.0)
    if not model or not (0 <= price.input < 1e9 and 0 <= price.output < 1e9):
        raise ArgumentTypeError(f"{text!r} is no price; write MODEL=0.5/1.5, money for a million tokens")
    return model, price


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ArgumentTypeError(f"{text!r} is no share; write 0.05 for 5 %")
    return share


def _tuning(tasks: Sequence[Task], outcomes: Sequence[Outcome], teams: frozenset[str], error_max: float) -> Tuning:
    from open_autoglm.cli.evaluate.tuning import tune

    try:
        return tune(tasks, outcomes, teams, error_max)
    except ValueError as error:
        raise CommandFailed(f"--tune: {error}") from error


def _print_tuning(tuning: Tuning, terminal: Terminal) -> None:
    from open_autoglm.cli.evaluate.tuning import as_yaml

    terminal.line()
    terminal.line(f"a cascade, found with {tuning.tasks} tasks; measure it with others:")
    terminal.line(f"  wrong           {tuning.error * 100:.1f} %, at most {tuning.error_bound * 100:.1f} %")
    terminal.line(f"  cost of a task  {tuning.cost:.4g}; the last member alone {tuning.best_cost:.4g}")
    terminal.line(f"  goes further    {tuning.deferred * 100:.0f} % of the tasks")
    for member, said in tuning.said_error.items():
        terminal.line(f"  {member}: calibration error {said:.3f}, with its curve {tuning.calibrated_error[member]:.3f}")
    terminal.line()
    for line in as_yaml("cascade", tuning):
        terminal.line(line)


_HEAD = ("model", "right", "95 %", "tasks", "failed", "cost", "calls", "p50 ms", "p95 ms", "p99 ms", "ECE", "ranking")


def _print(report: Report, terminal: Terminal) -> None:
    rows = [
        (
            row.model,
            f"{row.accuracy * 100:.1f} %",
            f"{row.low * 100:.1f}-{row.high * 100:.1f}",
            row.tasks,
            row.failed,
            f"{row.cost:.4g}",
            row.calls,
            row.p50_ms,
            row.p95_ms,
            row.p99_ms,
            None if row.calibration_error is None else f"{row.calibration_error:.3f}",
            None if row.ranking is None else f"{row.ranking:.3f}",
        )
        for row in report.rows
    ]
    print_table(terminal, _HEAD, rows)
    if report.asked < report.planned:
        terminal.line(f"{report.asked} of {report.planned} questions were asked")
    for row in report.rows:
        if row.members:
            shares = ", ".join(f"{name} {share * 100:.0f} %" for name, share in row.members.items())
            terminal.line(terminal.shown(f"{row.model} asked {shares}"))
        if row.utilisation:
            shares = ", ".join(f"{name} {share * 100:.0f} %" for name, share in row.utilisation.items())
            terminal.line(terminal.shown(f"{row.model} kept busy {shares} of the time"))
        if len(row.by_class) > 1:
            shares = ", ".join(f"{name} {share * 100:.1f} %" for name, share in row.by_class.items())
            terminal.line(terminal.shown(f"{row.model}: {shares}"))
        for failure, times in row.failures.items():
            terminal.line(terminal.shown(f"{row.model} failed {times} times: {failure}"))
    together = report.together
    if together is None:
        return
    terminal.line()
    terminal.line(f"of {together.tasks} tasks that all single models were asked:")
    terminal.line(terminal.shown(f"  best single     {together.best_accuracy * 100:.1f} %, {together.best_single}"))
    terminal.line(f"  someone right   {together.ceiling * 100:.1f} %, which a router that knew would reach")
    terminal.line(f"  its cost        {together.oracle_cost:.4g}")
    pairs = [(pair.first, pair.second, _figure(pair.phi), _figure(pair.same_wrong)) for pair in together.pairs]
    print_table(terminal, ("errors of", "and", "phi", "same wrong"), pairs)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
