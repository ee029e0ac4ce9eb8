"""Describes the admin API in OpenAPI 3.1, from the same table that builds its routes.

Invariant: every status, content type and parameter that a route can answer or take is here; objects may hold more
fields than are named, never fewer than are required.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import msgspec

from open_autoglm import __version__
from open_autoglm.errors import CODES
from open_autoglm.server.admin_call import AdminRoute
from open_autoglm.server.admin_guard import BODY_BYTES_MAX
from open_autoglm.server.admin_query import TEXT_CHARS_MAX
from open_autoglm.server.admin_routes import ROUTES
from open_autoglm.telemetry.exposition import CONTENT_TYPE

Schema = dict[str, Any]

_WORDS = {
    200: "Done.",
    400: "The request is malformed: its message and `param` say where.",
    401: "The admin key is missing or wrong.",
    403: "This Host or Origin is not one of the listener's.",
    404: "There is no such thing.",
    405: "The method is not for this path.",
    408: "The body did not come in time.",
    409: "It cannot be done in the present state.",
    413: f"The body is longer than {BODY_BYTES_MAX} bytes.",
    422: "The configuration is wrong; `problems` lists everything that is.",
    500: "The server failed at this request.",
    501: "This part is not in this version.",
    502: "A node could not be reached, or refused.",
    503: "Not now: the server is not ready, or has too many connections.",
    507: "No room is left; nothing of it was done.",
}

_PATH_VALUES: dict[str, Schema] = {
    "action": {"type": "string", "enum": ["open", "reset"]},
    "step": {"type": "string", "enum": ["start", "weights", "promote", "rollback"]},
}


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _list(name: str) -> Schema:
    return {"type": "array", "items": _ref(name)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_TRUTH: Schema = {"type": "boolean"}
_MS: Schema = {"type": "number", "minimum": 0, "description": "Milliseconds."}
_MS_OR_NULL: Schema = {"type": ["number", "null"], "minimum": 0, "description": "Milliseconds; null: not reached."}
_COUNT_OR_NULL: Schema = {"type": ["integer", "null"], "minimum": 0}
_BODY_STATUSES = {(True, False): (408, 422), (False, True): (408,)}
"""By whether a route takes a configuration, or a task graph."""
_SHARED_STATUSES = (400, 401, 403, 404, 405, 413, 500, 503)

_SUMMARY: dict[str, Schema] = {
    "request_id": _TEXT,
    "trace_id": _TEXT,
    "received_at": {"type": "string", "format": "date-time"},
    "route": _TEXT,
    "model": _TEXT,
    "served_by": _TEXT,
    "key": _TEXT,
    "client": _TEXT,
    "stream": _TRUTH,
    "status": _WHOLE,
    "code": _TEXT,
    "message": _TEXT,
    "finish_reason": _TEXT,
    "version": {**_TEXT, "description": "Of the model that computed the answer; empty where nobody said it."},
    "revision": _WHOLE,
    "bytes_in": _WHOLE,
    "bytes_out": _WHOLE,
    "delivered_chars": _WHOLE,
    "attempt_count": _WHOLE,
    "total_ms": _MS,
    "first_byte_ms": _MS_OR_NULL,
    "usage": _object(
        {"prompt_tokens": _COUNT_OR_NULL, "completion_tokens": _COUNT_OR_NULL, "estimated": _TRUTH},
    ),
}

_RUN_SUMMARY: dict[str, Schema] = {
    "id": _TEXT,
    "name": _TEXT,
    "state": {"type": "string", "enum": ["running", "waiting", "done", "failed", "cancelled", "budget_exhausted"]},
    "by": _TEXT,
    "began": {"type": "string", "format": "date-time"},
    "changed": {"type": "string", "format": "date-time"},
    "budget": _object({}, {"tokens": _WHOLE, "money": _NUMBER, "time": _NUMBER}),
}
_SPENT: Schema = _object({"tokens": _WHOLE, "money": _NUMBER})

SCHEMAS: dict[str, Schema] = {
    "Error": _object(
        {
            "error": _object(
                {
                    "message": _TEXT,
                    "type": _TEXT,
                    "code": {"type": "string", "enum": sorted(CODES)},
                    "param": {"type": ["string", "null"]},
                    "request_id": _TEXT,
                },
                {"problems": _list("Problem")},
            )
        }
    ),
    "Problem": _object({"path": _TEXT, "line": {"type": "integer", "minimum": 0}, "message": _TEXT}),
    "Health": _object({"status": {"const": "ok"}}),
    "Ready": _object({"ready": _TRUTH, "reason": _TEXT}),
    "Status": {"type": "object"},
    "Revision": _object({"revision": _WHOLE}, {"since": _TEXT, "by": _TEXT}),
    "Revisions": _object({"revisions": _list("Revision")}),
    "Diff": {"type": "object"},
    "Model": _object(
        {"name": _TEXT, "endpoint": _TEXT, "state": _TEXT},
        {
            "dialect": {"type": ["string", "null"]},
            "breaker": _TEXT,
            "in_flight": _WHOLE,
            "strategy": _TEXT,
            "reason": {**_TEXT, "description": "Why no link to a node is open."},
        },
    ),
    "Models": _object({"models": _list("Model")}),
    "NodeModel": _object({"name": _TEXT, "version": _TEXT}),
    "Node": _object(
        {
            "id": _TEXT,
            "role": {"type": "string", "enum": ["server", "node"]},
            "class": _TEXT,
            "state": {"type": "string", "enum": ["alive", "draining", "suspect", "dead", "left"]},
            "models": _list("NodeModel"),
            "load": {"type": ["object", "null"]},
            "last_heard_s": {"type": "number", "minimum": 0},
            "delay_ms": {**_MS_OR_NULL, "description": "Milliseconds there and back; null: not asked yet."},
            "self": _TRUTH,
        },
        {
            "address": _TEXT,
            "gossip": _TEXT,
            "incarnation": _WHOLE,
            "note": _TEXT,
            "note_version": _TEXT,
            "drained": _TRUTH,
        },
    ),
    "Note": _object({"id": _TEXT, "note": _TEXT, "note_version": _TEXT}, {"drained": _TRUTH}),
    "Nodes": _object({"nodes": _list("Node")}),
    "RolloutSide": _object(
        {
            "version": _TEXT,
            "requests": _WHOLE,
            "failures": _WHOLE,
        }
    ),
    "Rollout": _object(
        {
            "model": _TEXT,
            "state": {"type": "string", "enum": ["running", "promoted", "rolled_back"]},
            "share": {"type": "number", "minimum": 0, "maximum": 1},
            "stable": _ref("RolloutSide"),
            "candidate": _ref("RolloutSide"),
            "history": _list("RolloutStep"),
        },
        {"by": _TEXT, "conflicts": _list("RolloutConflict")},
    ),
    "RolloutConflict": _object({"kept": _ref("RolloutWrite"), "lost": _ref("RolloutWrite"), "settled": _TRUTH}),
    "RolloutWrite": _object({"by": _TEXT, "state": _TEXT, "share": _NUMBER, "candidate": _TEXT}),
    "RolloutStep": _object({"ago_s": _NUMBER, "what": _TEXT, "why": _TEXT}),
    "Rollouts": _object({"rollouts": _list("Rollout")}),
    "Key": _object({"name": _TEXT}),
    "Keys": _object({"keys": _list("Key")}),
    "Request": _object(_SUMMARY),
    "Requests": _object({"requests": _list("Request")}),
    "Stage": _object({"name": _TEXT, "at_ms": _MS, "ms": _MS}),
    "Candidate": _object({"group": _TEXT, "endpoint": _TEXT, "tried": _TRUTH}),
    "Attempt": _object(
        {
            "number": _WHOLE,
            "group": _TEXT,
            "endpoint": _TEXT,
            "reason": _TEXT,
            "outcome": _TEXT,
            "status": _WHOLE,
            "detail": _TEXT,
            "reused": _TRUTH,
            "at_ms": _MS,
            "ms": _MS,
            "send_ms": _MS_OR_NULL,
            "head_ms": _MS_OR_NULL,
            "first_ms": _MS_OR_NULL,
        }
    ),
    "Explanation": _object(
        {
            **_SUMMARY,
            "rejected": _TEXT,
            "queue": {**_object({"position": _WHOLE, "ms": _MS}), "type": ["object", "null"]},
            "stages": _list("Stage"),
            "candidates": _list("Candidate"),
            "attempts": _list("Attempt"),
            "cooperation": {
                "type": ["object", "null"],
                "description": "What a virtual model did for it: asks, votes, decision; null for other models.",
            },
        }
    ),
    "RecordedRun": _object({"run": _TEXT}),
    "Label": _object(
        {
            "run": _TEXT,
            "by": {"type": "string", "enum": ["human", "verifier"]},
            "right": _TRUTH,
            "learned": {**_TRUTH, "description": "Whether the virtual model is served here, and learned from it."},
        }
    ),
    "TaskGraph": _object(
        {"tasks": {"type": "array", "items": {"type": "object"}}},
        {"name": _TEXT, "timeout_s": _NUMBER, "budget": {"type": "object"}},
    ),
    "Task": _object(
        {"id": _TEXT, "tool": _TEXT, "state": _TEXT, "depends_on": {"type": "array", "items": _TEXT}},
        {"result": {}, "error": _object({"code": _TEXT, "message": _TEXT})},
    ),
    "Question": _object(
        {
            "task": _TEXT,
            "question": {"type": "string", "enum": ["approval", "confirmation", "unknown"]},
            "arguments": {"type": "object", "description": "What it is called with, results filled in."},
        }
    ),
    "RunSummary": _object(_RUN_SUMMARY),
    "Runs": _object({"runs": _list("RunSummary")}),
    "Run": _object(
        {
            **_RUN_SUMMARY,
            "spent": _SPENT,
            "reserved": _SPENT,
            "stop_reason": _TEXT,
            "asking": _list("Question"),
            "tasks": _list("Task"),
        }
    ),
    "Description": _object({"openapi": _TEXT, "info": {"type": "object"}, "paths": {"type": "object"}}),
}


def _operation(route: AdminRoute) -> Schema:
    statuses = dict.fromkeys(
        (*route.statuses, *_SHARED_STATUSES, *_BODY_STATUSES.get((route.takes_config, route.takes_graph), ()))
    )
    told: Schema = {
        "operationId": route.operation,
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": {str(status): _response(route, status) for status in sorted(statuses)},
        "security": [] if route.access == "public" else [{"adminKey": []}],
    }
    if route.access == "loopback":
        told["security"].append({})
        told["description"] = "Needs no key from the machine itself."
    if route.takes_config:
        config = {"schema": {"type": "object"}}
        told["requestBody"] = {"required": True, "content": {"application/yaml": config, "application/json": config}}
    if route.takes_graph:
        graph = {"schema": _ref("TaskGraph")}
        told["requestBody"] = {"required": True, "content": {"application/json": graph}}
    return told


def _parameters(route: AdminRoute) -> list[Schema]:
    in_path = re.findall(r"{(\w+)}", route.path)
    default = {"type": "string", "minLength": 1, "maxLength": TEXT_CHARS_MAX}
    return [
        *(
            {"name": name, "in": "path", "required": True, "schema": _PATH_VALUES.get(name, default)}
            for name in in_path
        ),
        *(
            {"name": p.name, "in": "query", "required": False, "description": p.help, "schema": p.schema()}
            for p in route.query
        ),
    ]


def _response(route: AdminRoute, status: int) -> Schema:
    return {"description": _WORDS[status], "content": _content(route, status)}


def _content(route: AdminRoute, status: int) -> Schema:
    error: Schema = {"application/json": {"schema": _ref("Error")}}
    overloaded: Schema = {"text/plain": {"schema": _TEXT}}
    if status == 503:
        told = {"application/json": {"schema": _ref(route.schema)}} if status in route.statuses else {}
        return {**told, **overloaded}
    if status == 400:
        return {**error, **overloaded}  # what the parser refuses is answered before it is known which route it is
    if status >= 400:
        return error
    if not route.schema:
        return {CONTENT_TYPE.partition(";")[0]: {"schema": _TEXT}}
    return {"application/json": {"schema": _ref(route.schema)}}


def description() -> Schema:
    """Return the OpenAPI document."""
    paths: dict[str, Schema] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Open-AutoGLM admin API",
            "version": __version__,
            "description": "Health, metrics, configuration, models, keys and requests of one server.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"adminKey": {"type": "http", "scheme": "bearer"}},
        },
    }


@functools.cache
def description_bytes() -> bytes:
    """Return the OpenAPI document in JSON."""
    return msgspec.json.encode(description())
