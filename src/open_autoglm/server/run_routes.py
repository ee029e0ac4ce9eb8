"""The admin listener's routes for durable runs of task graphs."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from open_autoglm.scheduling.run_event import Word
from open_autoglm.server.admin_call import AdminCall, AdminRoute
from open_autoglm.server.admin_guard import json_response
from open_autoglm.server.admin_query import flag, integer, text

_RUN: Final = "/admin/v1/runs/{run}"


async def _create(call: AdminCall) -> Response:
    return json_response(await call.control.runs.create(await call.body("a task graph in JSON"), call.by))


async def _rows(call: AdminCall) -> Response:
    rows = await call.control.runs.rows(call.query.get("state", ""), call.query.get("limit", 50))
    return json_response({"runs": rows})


async def _show(call: AdminCall) -> Response:
    return json_response(await call.control.runs.show(call.path["run"]))


async def _approve(call: AdminCall) -> Response:
    word: Word = "done" if call.query.get("done") else "approved"
    task, note = call.query.get("task", ""), call.query.get("note", "")
    return json_response(await call.control.runs.say(call.path["run"], task, word, call.by, note))


async def _refuse(call: AdminCall) -> Response:
    task, note = call.query.get("task", ""), call.query.get("note", "")
    return json_response(await call.control.runs.say(call.path["run"], task, "refused", call.by, note))


async def _cancel(call: AdminCall) -> Response:
    return json_response(await call.control.runs.cancel(call.path["run"]))


async def _resume(call: AdminCall) -> Response:
    return json_response(await call.control.runs.resume(call.path["run"]))


_LISTED: Final = (
    text("state", "Only runs that are running, waiting, done, failed, cancelled, or budget_exhausted."),
    integer("limit", 1, 1000, "How many, the newest first; 50 when left out."),
)
_WORD: Final = (
    text("task", "The task in question; may be left out when the run asks about one only."),
    text("note", "Why, for those who read the record.", empty=True),
)
_DONE: Final = flag("done", "The step was done already, and is not to be done again.")

RUN_ROUTES: Final = (
    AdminRoute(
        "POST",
        "/admin/v1/runs",
        "key",
        "runCreate",
        "Begin a run of a task graph.",
        _create,
        "Run",
        takes_graph=True,
        statuses=(200, 507),
    ),
    AdminRoute("GET", "/admin/v1/runs", "key", "runs", "The newest runs of task graphs.", _rows, "Runs", query=_LISTED),
    AdminRoute("GET", _RUN, "key", "run", "One run with its tasks.", _show, "Run"),
    AdminRoute(
        "POST",
        f"{_RUN}/approve",
        "key",
        "runApprove",
        "Agree to what a run asks: it goes on.",
        _approve,
        "Run",
        query=(*_WORD, _DONE),
        statuses=(200, 409, 507),
    ),
    AdminRoute(
        "POST",
        f"{_RUN}/refuse",
        "key",
        "runRefuse",
        "Refuse what a run asks: that task has failed.",
        _refuse,
        "Run",
        query=_WORD,
        statuses=(200, 409, 507),
    ),
    AdminRoute(
        "POST",
        f"{_RUN}/cancel",
        "key",
        "runCancel",
        "Stop a run and its steps.",
        _cancel,
        "Run",
        statuses=(200, 409, 507),
    ),
    AdminRoute(
        "POST",
        f"{_RUN}/resume",
        "key",
        "runResume",
        "Go on now with a run that nobody drives.",
        _resume,
        "Run",
        statuses=(200, 409, 507),
    ),
)
