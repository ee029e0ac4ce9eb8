"""Writes `docs/admin-api.md` from the routes themselves: `python -m open_autoglm.server.admin_reference`.

Invariant: every route, parameter and field that the OpenAPI description has is on the page; a test compares them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from open_autoglm.server.admin_call import AdminRoute
from open_autoglm.server.admin_openapi import SCHEMAS
from open_autoglm.server.admin_routes import ROUTES

PAGE: Final = Path(__file__).parents[3] / "docs" / "admin-api.md"

_ACCESS: Final = {"public": "none", "loopback": "none from this machine", "key": "yes"}

_HEAD: Final = """\
# Admin API

<!-- Written by `python -m open_autoglm.server.admin_reference`; change the code, not the page. -->

The admin listener is `http://127.0.0.1:8081` unless `server.admin_host` and `server.admin_port` say otherwise.
Everything that `autoglm` shows of a running server comes from here; `--json` prints it as it is.

```
curl -s http://127.0.0.1:8081/admin/v1/status -H "authorization: Bearer $(cat data/admin.key)"
```

The key is `server.admin_key`, or it was made at the first start and is kept in `admin.key` in `server.data_dir`.
Requests for other host names than its own, and from pages of other sites, are refused. Errors are those of
[the data listener](errors.md); a wrong configuration is 422 and lists every problem in `error.problems`.
`GET /openapi.json` describes all of it in OpenAPI 3.1.

## Routes

| route | does | key | answers |
|---|---|---|---|
"""

_CONFIG: Final = """\

The body of `POST /admin/v1/config` and `POST /admin/v1/config/diff` is a configuration in YAML or JSON. `${NAME}` and
`file:PATH` are refused in it. The body of `POST /admin/v1/runs` is a [task graph](how-to/task-graphs.md) in JSON.
"""

_ANSWERS: Final = """\

## Answers

Objects may hold more fields than these, never fewer. Times in `…_ms` are milliseconds; null means that it was not
reached, or not told.

| answer | fields |
|---|---|
"""


def page() -> str:
    """Return the page."""
    built = [route for route in ROUTES if 501 not in route.statuses]
    later = ", ".join(f"`{route.path}`" for route in ROUTES if 501 in route.statuses)
    asked = "".join(_query(route) for route in built if route.query)
    answers = [f"| {name} | {_fields(schema)} |" for name, schema in SCHEMAS.items()]
    routes = _lines([_row(route) for route in built])
    return (
        f"{_HEAD}{routes}\nNot in this version, and answered with 501: {later}.\n"
        f"{_CONFIG}{asked}{_ANSWERS}{_lines(answers)}"
    )


def _row(route: AdminRoute) -> str:
    answers = route.schema or "text"
    return f"| `{route.method} {route.path}` | {route.summary} | {_ACCESS[route.access]} | {answers} |"


def _query(route: AdminRoute) -> str:
    """What may stand behind the question mark of one route."""
    rows = _lines([f"| `{each.name}` | {each.kind} | {each.help} |" for each in route.query])
    return f"\n## The query of `{route.method} {route.path}`\n\n| query | value | means |\n|---|---|---|\n{rows}"


def _fields(schema: dict[str, Any]) -> str:
    """Write the fields of an object in one line, those of objects within it in braces."""
    fields = [_field(name, value) for name, value in schema.get("properties", {}).items()]
    return ", ".join(fields) or "as the command of that name prints with `--json`"


def _field(name: str, value: dict[str, Any]) -> str:
    if value.get("type") == "array":
        items = value["items"]
        return f"`{name}` (list of {items['$ref'].rpartition('/')[2] if '$ref' in items else items['type']})"
    if value.get("type") == "object" and value.get("properties"):
        return f"`{name}` {{{_fields(value)}}}"
    return f"`{name}`"


def _lines(texts: list[str]) -> str:
    return "".join(f"{text}\n" for text in texts)


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
