"""A run as people and programs see it, over the admin API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from open_autoglm import clock
from open_autoglm.scheduling.graph_run import GraphRun
from open_autoglm.scheduling.references import ReferenceProblem, fill
from open_autoglm.scheduling.run_account import RunAccount
from open_autoglm.storage.run_journal import RunRow

if TYPE_CHECKING:
    from open_autoglm.cooperation.durable import RunAbout


def run_view(
    row: RunRow, about: RunAbout, run: GraphRun | None = None, account: RunAccount | None = None
) -> dict[str, Any]:
    """Return a JSON object: `id`, `name`, `state`, `by`, `began`, `changed`, `budget`; the limits that it has.

    With a machine also `tasks` and more; with an account also `spent` and `reserved`.
    """
    view: dict[str, Any] = {
        "id": row.id,
        "name": about.name,
        "state": row.state,
        "by": about.by,
        "began": clock.iso_utc(row.began_ms / 1000),
        "changed": clock.iso_utc(row.changed_ms / 1000),
        "budget": msgspec.to_builtins(about.budget),
    }
    if account is not None:
        view["spent"] = account.spent._asdict()
        view["reserved"] = account.reserved._asdict()
    if run is not None:
        view["stop_reason"] = run.stop_reason
        view["asking"] = [
            {"task": task_id, "question": question, "arguments": _arguments(run, task_id)}
            for task_id, question in run.asking.items()
        ]
        view["tasks"] = [_task_view(run, task_id) for task_id in run.states]
    return view


def _arguments(run: GraphRun, task_id: str) -> dict[str, Any]:
    """What a task would be called with, or was: a person who gives word must see to what."""
    written = run.graph.tasks[task_id].args
    try:
        filled: dict[str, Any] = fill(written, run.results)
    except ReferenceProblem:  # of a task that was skipped
        return written
    return filled


def _task_view(run: GraphRun, task_id: str) -> dict[str, Any]:
    task = run.graph.tasks[task_id]
    view: dict[str, Any] = {
        "id": task_id,
        "tool": task.tool,
        "state": run.states[task_id],
        "depends_on": list(run.graph.needs[task_id]),
    }
    if task_id in run.results:
        view["result"] = run.results[task_id]
    if task_id in run.errors:
        view["error"] = {"code": run.errors[task_id].code, "message": run.errors[task_id].message}
    return view
