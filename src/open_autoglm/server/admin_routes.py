"""The table of the admin listener's routes, and what each of them does.

Invariant: the application (`admin_app.py`) and its description (`admin_openapi.py`) are both made from `ROUTES`, so
neither has a route that the other lacks, and every route says who may use it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import TypeVar, cast

from starlette.responses import Response

from open_autoglm.errors import RequestError, ServerError
from open_autoglm.server.admin import EndpointAction, RolloutStep
from open_autoglm.server.admin_call import AdminCall, AdminRoute, Handler
from open_autoglm.server.admin_guard import json_response
from open_autoglm.server.admin_query import flag, integer, text
from open_autoglm.server.run_routes import RUN_ROUTES
from open_autoglm.telemetry.explain import RequestFilter
from open_autoglm.telemetry.exposition import CONTENT_TYPE

_T = TypeVar("_T")


async def _settled(answer: _T | Awaitable[_T]) -> _T:
    """Wait for what a control method returned, if it is to be waited for."""
    return await cast("Awaitable[_T]", answer) if inspect.isawaitable(answer) else answer


async def _health(call: AdminCall) -> Response:
    return json_response({**call.control.health(), "status": "ok"})


async def _ready(call: AdminCall) -> Response:
    ready, reason = await _settled(call.control.ready())
    return json_response({"ready": ready, "reason": reason}, 200 if ready else 503)


async def _metrics(call: AdminCall) -> Response:
    return Response(await _settled(call.control.metrics()), headers={"content-type": CONTENT_TYPE})


async def _status(call: AdminCall) -> Response:
    return json_response(await _settled(call.control.status()))


async def _config(call: AdminCall) -> Response:
    return json_response(call.control.config_active())


async def _config_apply(call: AdminCall) -> Response:
    config = await call.body()
    return json_response(await _settled(call.control.config_apply(config, call.by)))


async def _config_rollback(call: AdminCall) -> Response:
    return json_response(await _settled(call.control.config_rollback(call.by)))


async def _config_reload(call: AdminCall) -> Response:
    return json_response(await _settled(call.control.config_reload(call.by)))


async def _config_history(call: AdminCall) -> Response:
    return json_response({"revisions": call.control.config_history()})


async def _config_diff(call: AdminCall) -> Response:
    return json_response(call.control.config_diff(await call.body()))


async def _models(call: AdminCall) -> Response:
    return json_response({"models": await _settled(call.control.models())})


async def _endpoint_action(call: AdminCall) -> Response:
    action = call.path["action"]
    if action not in ("open", "reset"):
        raise RequestError("not_found", f"there is no action {action!r}; there are open and reset")
    done = call.control.endpoint_action(call.path["name"], call.path["endpoint"], cast(EndpointAction, action))
    return json_response(await _settled(done))


async def _nodes(call: AdminCall) -> Response:
    return json_response({"nodes": call.control.nodes()})


async def _node_note(call: AdminCall) -> Response:
    note, version = call.query.get("text", ""), call.query.get("version", "")
    return json_response(call.control.node_note(call.path["name"], note, version))


async def _node_drain(call: AdminCall) -> Response:
    step = call.path["step"]
    if step not in ("drain", "undrain"):
        raise RequestError("not_found", f"there is no step {step!r}; there are drain and undrain")
    return json_response(call.control.node_drain(call.path["name"], step == "drain"))


async def _rollouts(call: AdminCall) -> Response:
    return json_response({"rollouts": call.control.rollouts()})


async def _rollout_step(call: AdminCall) -> Response:
    step = call.path["step"]
    if step not in ("start", "weights", "promote", "rollback"):
        raise RequestError("not_found", f"there is no step {step!r}; there are start, weights, promote and rollback")
    done = call.control.rollout_step(call.path["name"], cast(RolloutStep, step), call.query)
    return json_response(await done)


async def _keys(call: AdminCall) -> Response:
    return json_response({"keys": await _settled(call.control.keys())})


async def _requests(call: AdminCall) -> Response:
    limit = call.query.pop("limit", 50)
    rows = await _settled(call.control.requests(limit, RequestFilter(**call.query)))
    return json_response({"requests": rows})


async def _explain(call: AdminCall) -> Response:
    told = await _settled(call.control.explain(call.path["request_id"]))
    if told is None:
        raise RequestError(
            "not_found",
            f"request {call.path['request_id']!r} is not known here, or no longer; explain.keep says how many are kept",
        )
    return json_response(told)


async def _recorded(call: AdminCall) -> Response:
    return json_response(await call.control.recorded(call.path["request_id"]))


async def _feedback(call: AdminCall) -> Response:
    from open_autoglm.server.audit_desk import Said

    by = call.query.get("by", "human")
    if by not in ("human", "verifier"):
        raise RequestError("invalid_request", f"query parameter by is {by!r}, not human or verifier", param="by")
    said = Said(call.query.get("right"), call.query.get("answer"), by)
    return json_response(await call.control.feedback(call.path["request_id"], said))


async def _openapi(call: AdminCall) -> Response:
    from open_autoglm.server.admin_openapi import description_bytes

    return Response(description_bytes(), media_type="application/json")


def _not_built(part: str) -> Handler:
    async def answer(call: AdminCall) -> Response:
        raise ServerError("not_implemented", f"{part} are not part of this version")

    return answer


REQUEST_FILTERS = (
    integer("limit", 1, 1000, "How many, the newest first; 50 when left out."),
    text("model", "The name asked for, or the one that answered."),
    integer("status", 100, 599, "The HTTP status sent."),
    text("code", "The error code; empty for successes.", empty=True),
    text("key", "The name of the API key; empty for requests without one.", empty=True),
    text("endpoint", "The name of an endpoint that was tried."),
    flag("failed", "Only those that ended with an error, or only those that did not."),
)

ROLLOUT_FIELDS = (
    text("version", "Of `start`: the version to roll out."),
    integer("percent", 0, 100, "Of `start` and `weights`: the candidate's share of the requests."),
    integer("window_s", 1, 86_400, "Of `start`: how far back errors count, seconds; 60 when left out."),
    integer("requests_min", 1, 1_000_000, "Of `start`: requests before the candidate is judged; 20 when left out."),
    integer("errors_percent", 0, 100, "Of `start`: how many of them may fail; 5 when left out."),
    integer("promote_after_s", 1, 1_000_000, "Of `start`: promote after so long without a fault, seconds."),
)

NOTE_FIELDS = (
    text("text", "The note; empty takes it away.", empty=True),
    text("version", "The `note_version` that was shown; empty when there never was a note.", empty=True),
)

FEEDBACK_FIELDS = (
    flag("right", "Whether its decision was right; may be left out when `answer` says which one is."),
    text("answer", "The right answer, as a member may write it."),
    text("by", "Who says so: human or verifier; human when left out."),
)

_FEEDBACK = "/admin/v1/requests/{request_id}/feedback"
_EXPLAIN = "/admin/v1/requests/{request_id}/explain"
_RECORDED = "/admin/v1/requests/{request_id}/run"
_ENDPOINT = "/admin/v1/models/{name}/endpoints/{endpoint}/{action}"

ROUTES: tuple[AdminRoute, ...] = (
    AdminRoute("GET", "/healthz", "public", "health", "Whether the process lives.", _health, "Health"),
    AdminRoute("GET", "/readyz", "public", "ready", "Whether it can serve.", _ready, "Ready", statuses=(200, 503)),
    AdminRoute("GET", "/metrics", "loopback", "metrics", "Metrics in Prometheus' text format.", _metrics),
    AdminRoute("GET", "/admin/v1/status", "key", "status", "The server on one page.", _status, "Status"),
    AdminRoute("GET", "/admin/v1/config", "key", "config", "The active configuration.", _config, "Revision"),
    AdminRoute(
        "POST",
        "/admin/v1/config",
        "key",
        "configApply",
        "Apply a configuration, whole or not at all.",
        _config_apply,
        "Revision",
        takes_config=True,
        statuses=(200, 409),
    ),
    AdminRoute(
        "POST",
        "/admin/v1/config/rollback",
        "key",
        "configRollback",
        "Go back to the revision before.",
        _config_rollback,
        "Revision",
        statuses=(200, 409, 422),
    ),
    AdminRoute(
        "POST",
        "/admin/v1/config/reload",
        "key",
        "configReload",
        "Read the configuration file again.",
        _config_reload,
        "Revision",
        statuses=(200, 409, 422),
    ),
    AdminRoute(
        "GET", "/admin/v1/config/history", "key", "configHistory", "Former revisions.", _config_history, "Revisions"
    ),
    AdminRoute(
        "POST",
        "/admin/v1/config/diff",
        "key",
        "configDiff",
        "What a configuration would change.",
        _config_diff,
        "Diff",
        takes_config=True,
    ),
    AdminRoute("GET", "/admin/v1/models", "key", "models", "Models and their endpoints.", _models, "Models"),
    AdminRoute(
        "POST", _ENDPOINT, "key", "endpointAction", "Force a breaker open, or reset it.", _endpoint_action, "Model"
    ),
    AdminRoute("GET", "/admin/v1/nodes", "key", "nodes", "Members of the cluster.", _nodes, "Nodes"),
    AdminRoute(
        "POST",
        "/admin/v1/nodes/{name}/note",
        "key",
        "nodeNote",
        "Set the note that all servers show on a member.",
        _node_note,
        "Note",
        query=NOTE_FIELDS,
        statuses=(200, 409),
    ),
    AdminRoute(
        "POST",
        "/admin/v1/nodes/{name}/{step}",
        "key",
        "nodeDrain",
        "Have no server send new requests to a node (`drain`), or have them do so again (`undrain`).",
        _node_drain,
        "Note",
    ),
    AdminRoute("GET", "/admin/v1/rollouts", "key", "rollouts", "Rollouts of models.", _rollouts, "Rollouts"),
    AdminRoute(
        "POST",
        "/admin/v1/rollouts/{name}/{step}",
        "key",
        "rolloutStep",
        "Start a rollout, change its weights, promote the candidate, or roll back.",
        _rollout_step,
        "Rollout",
        query=ROLLOUT_FIELDS,
        statuses=(200, 409, 502),
    ),
    AdminRoute("GET", "/admin/v1/keys", "key", "keys", "API keys by name, never the keys.", _keys, "Keys"),
    AdminRoute(
        "GET",
        "/admin/v1/requests",
        "key",
        "requests",
        "The newest requests.",
        _requests,
        "Requests",
        query=REQUEST_FILTERS,
    ),
    AdminRoute("GET", _EXPLAIN, "key", "explain", "Why one request went as it did.", _explain, "Explanation"),
    AdminRoute(
        "GET",
        _RECORDED,
        "key",
        "requestRun",
        "What a virtual model did for a request, from memory or the audit's files: after a restart too.",
        _recorded,
        "RecordedRun",
    ),
    AdminRoute(
        "POST",
        _FEEDBACK,
        "key",
        "feedback",
        "Say of a virtual model's answer whether it was right; once, and it learns from it.",
        _feedback,
        "Label",
        query=FEEDBACK_FIELDS,
        statuses=(200, 409),
    ),
    *RUN_ROUTES,
    AdminRoute("GET", "/openapi.json", "key", "openapi", "This description.", _openapi, "Description"),
    *(
        AdminRoute("GET", path, "key", part, f"Not part of this version: {part}.", _not_built(words), statuses=(501,))
        for path, part, words in (
            ("/admin/v1/sessions", "sessions", "sessions"),
            ("/console", "console", "the console's pages"),
        )
    ),
)
