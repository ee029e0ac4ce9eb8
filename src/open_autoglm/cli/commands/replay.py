"""`autoglm replay`: decide recorded runs again, offline, and compare."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from open_autoglm.cli.audit_source import AuditSource, add_source_options, find_audit, read_run
from open_autoglm.cli.failure import DONE, FAILED, CommandFailed
from open_autoglm.cli.terminal import Terminal

if TYPE_CHECKING:
    from open_autoglm.telemetry.run_record import RunRecord

SHOWN_MAX = 1000
"""Runs that are told of one by one; all are counted."""


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument("run", metavar="RUN_ID", nargs="?", help="one run; every run of the audit when left out")
    add_source_options(parser)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Decide again; the exit code is 1 when anything is not as it was recorded."""
    source = find_audit(arguments, terminal)
    counts = {"same": 0, "different": 0, "no_replay": 0}
    shown = []
    try:
        for record in _records(source, arguments.run):
            result = _again(record)
            counts[result["result"]] += 1
            if result["result"] == "different" or arguments.run is not None:
                shown.append(result)
            del shown[SHOWN_MAX:]
    except ValueError as error:
        raise CommandFailed(f"a run cannot be read: {error}; `autoglm audit verify` says more") from error
    if arguments.run is not None and counts["no_replay"]:
        raise CommandFailed(f"the run {arguments.run!r} cannot be decided again: {shown[0]['why']}")
    if arguments.json:
        terminal.json({**counts, "runs": shown})
        return FAILED if counts["different"] else DONE
    for result in shown:
        terminal.line(terminal.shown(_words(result)))
    if arguments.run is None:
        left = counts["no_replay"]
        terminal.line(
            f"{counts['same']} the same, {counts['different']} different, {left} that cannot be decided again"
        )
    return FAILED if counts["different"] else DONE


def _records(source: AuditSource, run: str | None) -> Iterator[RunRecord]:
    """Those to be decided again.

    Raises:
        ValueError: a record was changed so that it cannot be read.
    """
    if run is not None:
        yield read_run(source, run)
        return
    from open_autoglm.telemetry.audit_reader import ended_runs
    from open_autoglm.telemetry.run_record import record_of

    yield from (record for told in ended_runs(source.path) if (record := record_of(told)) is not None)


def _again(record: RunRecord) -> dict[str, Any]:
    from open_autoglm.cooperation.plan_replay import STRATEGY, replay_plan
    from open_autoglm.telemetry.run_record import recording_of
    from open_autoglm.voting.replay import replay

    plans = record.header.get("strategy") == STRATEGY
    try:
        difference = replay_plan(record) if plans else replay(recording_of(record))
    except ValueError as error:
        return {"run": record.run, "result": "no_replay", "why": str(error)}
    if difference is None:
        return {"run": record.run, "result": "same"}
    return {
        "run": record.run,
        "result": "different",
        "after_steps" if plans else "after_candidates": difference.step,
        "field": difference.field,
        "recorded": difference.recorded,
        "now": difference.replayed,
    }


def _words(result: dict[str, Any]) -> str:
    if result["result"] == "same":
        return f"{result['run']}: the same decision, byte for byte"
    after = f"{result['after_steps']} steps" if "after_steps" in result else f"{result['after_candidates']} candidates"
    return (
        f"{result['run']}: different after {after}: {result['field']} was "
        f"{result['recorded']}, and is {result['now']} now"
    )
