"""The admin application: who may do what, and what the routes answer. In process, without a socket."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from starlette.routing import Route

from open_autoglm.errors import AutoGLMError, ConfigError, ConfigProblem, RequestError
from open_autoglm.ids import new_key
from open_autoglm.secret import Secret
from open_autoglm.server.admin import AdminControl, EndpointAction, JSONObject, RolloutStep, build_admin
from open_autoglm.server.admin_app import Door
from open_autoglm.server.admin_guard import BODY_BYTES_MAX
from open_autoglm.server.admin_openapi import SCHEMAS, description
from open_autoglm.server.admin_routes import ROUTES, AdminRoute
from open_autoglm.server.audit_desk import Said
from open_autoglm.telemetry.explain import RequestFilter

KEY = new_key()
BEARER = {"authorization": f"Bearer {KEY}"}
SUMMARY: JSONObject = {
    "request_id": "r1",
    "trace_id": "t1",
    "received_at": "2026-01-01T00:00:00.000Z",
    "route": "/v1/chat/completions",
    "model": "chat",
    "served_by": "chat",
    "key": "default",
    "client": "127.0.0.1",
    "stream": False,
    "status": 200,
    "code": "",
    "message": "",
    "finish_reason": "stop",
    "version": "",
    "revision": 1,
    "bytes_in": 1,
    "bytes_out": 2,
    "delivered_chars": 3,
    "attempt_count": 0,
    "total_ms": 2.5,
    "first_byte_ms": None,
    "usage": {"prompt_tokens": None, "completion_tokens": 4, "estimated": False},
}


class Control:
    """A server of which every answer can be set; remembers what it was asked to do."""

    def __init__(self) -> None:
        self.extra: JSONObject = {}
        self.ready_answer = (True, "")
        self.fails: Exception | None = None
        self.asked: list[tuple[object, ...]] = []

    def _row(self, **fields: object) -> JSONObject:
        if self.fails is not None:
            raise self.fails
        return {**fields, **self.extra}

    def health(self) -> JSONObject:
        return self._row(version="1", status="not for the control to say")

    def ready(self) -> tuple[bool, str]:
        return self.ready_answer

    def metrics(self) -> bytes:
        return b"# HELP mcp_requests_total Requests.\n"

    def status(self) -> JSONObject:
        return self._row(uptime_s=1.5)

    def config_active(self) -> JSONObject:
        return self._row(revision=2, since="2026-01-01T00:00:00.000Z", by="start")

    def config_history(self) -> list[JSONObject]:
        return [self._row(revision=2), self._row(revision=1)]

    def config_diff(self, text: str) -> JSONObject:
        self.asked.append(("diff", text))
        return self._row(changes=[])

    def config_apply(self, text: str, by: str) -> JSONObject:
        self.asked.append(("apply", text, by))
        return self._row(revision=3)

    def config_reload(self, by: str) -> JSONObject:
        return self.config_active()

    async def config_rollback(self, by: str) -> JSONObject:
        self.asked.append(("rollback", by))
        return self._row(revision=1)

    def models(self) -> list[JSONObject]:
        return [self._row(name="chat", dialect="openai", endpoint="local:8001", state="ready")]

    def nodes(self) -> list[JSONObject]:
        row = {"id": "node-1", "role": "node", "class": "cpu", "state": "alive", "last_heard_s": 0.1, "delay_ms": None}
        return [self._row(**row, models=[{"name": "chat", "version": "1"}], load=None, self=False)]

    def node_note(self, name: str, text: str, version: str) -> JSONObject:
        return self._row(id=name, note=text, note_version=version or "v")

    def node_drain(self, name: str, drained: bool) -> JSONObject:
        return self._row(id=name, note="", note_version="", drained=drained)

    def rollouts(self) -> list[JSONObject]:
        return [self._rollout("chat")]

    async def rollout_step(self, model: str, step: RolloutStep, fields: JSONObject) -> JSONObject:
        self.asked.append((step, model, fields))
        return self._rollout(model)

    def _rollout(self, model: str) -> JSONObject:
        side = {"version": "1", "requests": 0, "failures": 0, "nodes": []}
        return self._row(model=model, state="running", share=0.2, stable=side, candidate=side, history=[])

    def keys(self) -> list[JSONObject]:
        return [self._row(name="default")]

    def requests(self, limit: int, where: RequestFilter) -> list[JSONObject]:
        self.asked.append(("requests", limit, where))
        return [self._row(**SUMMARY)]

    def explain(self, request_id: str) -> JSONObject | None:
        self.asked.append(("explain", request_id))
        if request_id != "r1":
            return None
        stage = {"name": "admit", "at_ms": 0.0, "ms": 0.5}
        return self._row(
            **SUMMARY, rejected="", queue=None, stages=[stage], candidates=[], attempts=[], cooperation=None
        )

    async def recorded(self, run: str) -> JSONObject:
        self.asked.append(("recorded", run))
        return self._row(run=run, model="team")

    async def feedback(self, run: str, said: Said) -> JSONObject:
        self.asked.append(("feedback", run, said))
        return self._row(run=run, by=said.by, right=said.right is not False, learned=True)

    def endpoint_action(self, model: str, endpoint: str, action: EndpointAction) -> JSONObject:
        self.asked.append((action, model, endpoint))
        return self._row(name=model, dialect=None, endpoint=endpoint, state="open")


@pytest.fixture
def control() -> Control:
    return Control()


Client = Callable[..., httpx2.AsyncClient]


@pytest.fixture
def client(control: Control) -> Client:
    """Make a client of a new application; `peer` is where it seems to come from."""

    def make(*, peer: str = "127.0.0.1", allowed_hosts: tuple[str, ...] = (), **options: Any) -> httpx2.AsyncClient:
        checked: AdminControl = control
        app = build_admin(checked, key=Secret(KEY), allowed_hosts=allowed_hosts)
        transport = httpx2.ASGITransport(app, client=(peer, 12345))
        return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8081", **options)

    return make


def concrete(route: AdminRoute) -> str:
    """Fill a route's variables with values that exist."""
    values = {"{request_id}": "r1", "{name}": "chat", "{endpoint}": "local", "{action}": "reset"}
    path = route.path
    for variable, value in values.items():
        path = path.replace(variable, value)
    return path


def named(route: AdminRoute) -> str:
    return f"{route.method} {route.path}"


def error_of(response: httpx2.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert {"message", "type", "code", "param", "request_id"} <= set(error)
    assert error["request_id"] == response.headers["x-request-id"]
    return error


# Who may.


def test_importing_the_door_loads_no_web_framework() -> None:
    code = (
        "import sys, open_autoglm.server.admin\n"
        "print([name for name in ('starlette', 'uvicorn', 'anyio', 'prometheus_client') if name in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert run.stdout.strip() == "[]"


def test_every_route_of_the_application_has_a_door_and_every_door_a_scope(control: Control) -> None:
    app = build_admin(control, key=Secret(KEY))
    doors = {route.path: route.endpoint for route in app.routes if isinstance(route, Route)}
    assert len(doors) == len(app.routes)
    assert all(isinstance(door, Door) for door in doors.values())
    assert {path for path in doors if not path.startswith("/{rest")} == {route.path for route in ROUTES}
    assert {route.path for route in ROUTES if route.access == "public"} == {"/healthz", "/readyz"}
    assert {route.path for route in ROUTES if route.access == "loopback"} == {"/metrics"}
    assert len({route.operation for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=named)
@pytest.mark.parametrize("peer", ["127.0.0.1", "192.0.2.7", "::1", "::ffff:127.0.0.1", "::ffff:192.0.2.7", "unknown"])
async def test_without_the_key_only_the_open_routes_answer(client: Client, route: AdminRoute, peer: str) -> None:
    local = peer in ("127.0.0.1", "::1", "::ffff:127.0.0.1")
    async with client(peer=peer) as http:
        response = await http.request(route.method, concrete(route))
    if route.access == "public" or (route.access == "loopback" and local):
        assert response.status_code == 200
    else:
        assert response.status_code == 401
        assert error_of(response)["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", KEY)],
        [("authorization", f"Basic {KEY}")],
        [("authorization", f"Bearer {KEY[:-1]}")],
        [("authorization", f"Bearer {KEY}x")],
        [("authorization", f"Bearer {KEY.upper()}")],
        [("authorization", "Bearer \xff")],
        [("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY}")],
        [("x-api-key", KEY)],
        [("cookie", f"key={KEY}")],
    ],
)
async def test_only_the_right_key_in_the_right_place_opens(
    client: Client, headers: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    async with client() as http:
        response = await http.get("/admin/v1/models", headers=raw)
    assert response.status_code == 401
    assert KEY[:12] not in response.text
    assert KEY[:12] not in caplog.text


async def test_wrong_keys_are_told_once_in_a_while(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    async with client(peer="192.0.2.7") as http:
        for _ in range(50):
            await http.get("/admin/v1/models", headers={"authorization": "Bearer guess"})
    assert caplog.text.count("192.0.2.7") == 1
    assert "guess" not in caplog.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_the_key_opens(client: Client, scheme: str) -> None:
    async with client(peer="192.0.2.7") as http:
        response = await http.get("/admin/v1/models", headers={"authorization": f"{scheme} {KEY}"})
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/", "/nothing", "/admin", "/admin/v1/models/", "/admin/v1/%6dodels", "//healthz"])
async def test_a_path_that_does_not_exist_is_found_out_with_the_key_only(client: Client, path: str) -> None:
    async with client() as http:
        url = httpx2.URL("http://127.0.0.1:8081").copy_with(raw_path=path.encode())
        assert (await http.get(url)).status_code == 401
        response = await http.get(url, headers=BEARER)
    assert response.status_code == 404
    assert error_of(response)["code"] == "not_found"


async def test_a_wrong_method_is_told_with_the_right_ones(client: Client) -> None:
    async with client(headers=BEARER) as http:
        response = await http.delete("/admin/v1/config")
        assert response.status_code == 405
        assert response.headers["allow"] == "GET, POST"
        assert error_of(response)["code"] == "method_not_allowed"
    async with client() as http:
        assert (await http.post("/healthz")).status_code == 405
        assert (await http.delete("/admin/v1/config")).status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8081", 200),
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("localhost.", 200),
        ("[::1]:8081", 200),
        ("admin.example:8081", 200),
        ("[2001:db8::1]", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 400),
        ("localhost:8081:1", 400),
        ("local host", 400),
        ("", 400),
    ],
)
@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/admin/v1/models"])
async def test_only_our_own_names_are_answered_for(client: Client, host: str, status: int, path: str) -> None:
    async with client(allowed_hosts=("admin.example", "2001:db8::1"), headers=BEARER) as http:
        response = await http.get(path, headers={"host": host})
    assert response.status_code == status
    assert status == 200 or error_of(response)["code"] in ("invalid_request", "forbidden")


async def test_two_hosts_are_none(client: Client) -> None:
    async with client() as http:
        response = await http.get("/healthz", headers=[("host", "localhost"), ("host", "localhost")])
    assert response.status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:8081"}, 200),
        ({"origin": "https://127.0.0.1:8081"}, 200),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
async def test_foreign_pages_are_kept_out(client: Client, headers: dict[str, str], status: int) -> None:
    async with client() as http:
        assert (await http.get("/metrics", headers=headers)).status_code == status


# What is answered.


async def test_health_and_readiness(client: Client, control: Control) -> None:
    async with client() as http:
        assert (await http.get("/healthz")).json() == {"version": "1", "status": "ok"}
        assert (await http.get("/readyz")).json() == {"ready": True, "reason": ""}
        control.ready_answer = (False, "no model is configured")
        response = await http.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"ready": False, "reason": "no model is configured"}


async def test_metrics_are_prometheus_text(client: Client) -> None:
    async with client() as http:
        response = await http.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response.text.startswith("# HELP mcp_requests_total")


async def test_every_answer_carries_its_id_and_is_not_kept(client: Client) -> None:
    async with client(headers=BEARER) as http:
        response = await http.get("/admin/v1/models", headers={"x-request-id": "mine-1"})
        assert response.headers["x-request-id"] == "mine-1"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        for wrong in ("two words", "x" * 200, ""):
            response = await http.get("/nothing", headers={"x-request-id": wrong})
            assert response.headers["x-request-id"].startswith("req-")


async def test_applying_a_configuration(client: Client, control: Control) -> None:
    text = "server: {port: 9000}\n# 模型\n"
    async with client(headers=BEARER) as http:
        response = await http.post("/admin/v1/config", content=text.encode())
        assert response.json()["revision"] == 3
        assert (await http.post("/admin/v1/config/rollback")).json()["revision"] == 1
        assert (await http.post("/admin/v1/config/diff", content=text.encode())).json() == {"changes": []}
        assert (await http.get("/admin/v1/config/history")).json()["revisions"][0] == {"revision": 2}
    by = "admin API from 127.0.0.1"
    assert control.asked == [("apply", text, by), ("rollback", by), ("diff", text)]


@pytest.mark.parametrize("path", ["/admin/v1/config", "/admin/v1/config/diff"])
async def test_a_wrong_configuration_is_answered_with_all_its_problems(
    client: Client, control: Control, path: str
) -> None:
    problems = [ConfigProblem("server.prot", 2, "unknown key; did you mean port?"), ConfigProblem("", 0, "too old")]
    control.fails = ConfigError("the request", problems)
    async with client(headers=BEARER) as http:
        response = await http.post(path, content=b"server: {prot: 1}")
    assert response.status_code == 422
    error = error_of(response)
    assert error["code"] == "invalid_request"
    assert error["problems"] == [
        {"path": "server.prot", "line": 2, "message": "unknown key; did you mean port?"},
        {"path": "", "line": 0, "message": "too old"},
    ]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_request"),
        (b" \n", 400, "invalid_request"),
        (b"a: \xff", 400, "invalid_request"),
        (b"#" * (BODY_BYTES_MAX + 1), 413, "request_too_large"),
        (b"#" * BODY_BYTES_MAX, 200, ""),
    ],
    ids=["empty", "blank", "latin", "too long", "just fits"],
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_have_limits(
    client: Client, control: Control, body: bytes, status: int, code: str, chunked: bool
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    async with client(headers=BEARER) as http:
        response = await http.post("/admin/v1/config", content=pieces() if chunked else body)
    assert response.status_code == status
    assert bool(control.asked) == (status == 200)
    if code:
        assert error_of(response)["code"] == code


@pytest.mark.parametrize(
    ("query", "limit", "where"),
    [
        ("", 50, RequestFilter()),
        ("limit=1000&unknown=1", 1000, RequestFilter()),
        ("model=chat&status=502&key=ops", 50, RequestFilter(model="chat", status=502, key="ops")),
        ("failed=true&code=", 50, RequestFilter(failed=True, code="")),
        ("failed=false&endpoint=a%2Fb", 50, RequestFilter(failed=False, endpoint="a/b")),
    ],
)
async def test_requests_are_filtered(
    client: Client, control: Control, query: str, limit: int, where: RequestFilter
) -> None:
    async with client(headers=BEARER) as http:
        response = await http.get(f"/admin/v1/requests?{query}")
    assert response.json()["requests"] == [SUMMARY]
    assert control.asked == [("requests", limit, where)]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e2", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("status=99", "status"),
        ("failed=1", "failed"),
        ("model=", "model"),
        (f"model={'x' * 257}", "model"),
    ],
)
async def test_a_wrong_parameter_is_named(client: Client, control: Control, query: str, param: str) -> None:
    async with client(headers=BEARER) as http:
        response = await http.get(f"/admin/v1/requests?{query}")
    assert response.status_code == 400
    assert error_of(response)["param"] == param
    assert not control.asked


async def test_saying_what_was_right(client: Client, control: Control) -> None:
    async with client(headers=BEARER) as http:
        told = await http.post("/admin/v1/requests/r1/feedback?right=true&by=verifier")
        assert told.json() == {"run": "r1", "by": "verifier", "right": True, "learned": True}
        assert control.asked[-1] == ("feedback", "r1", Said(True, None, "verifier"))
        await http.post("/admin/v1/requests/r1/feedback?answer=42")
        assert control.asked[-1] == ("feedback", "r1", Said(None, "42", "human"))
        wrong = await http.post("/admin/v1/requests/r1/feedback?right=yes")
        assert error_of(wrong)["param"] == "right"
        wrong = await http.post("/admin/v1/requests/r1/feedback?right=true&by=me")
        assert error_of(wrong)["param"] == "by"


async def test_explaining_a_request(client: Client, control: Control) -> None:
    async with client(headers=BEARER) as http:
        assert (await http.get("/admin/v1/requests/r1/explain")).json()["stages"][0]["name"] == "admit"
        assert (await http.get("/admin/v1/requests/r1/run")).json()["run"] == "r1"
        response = await http.get("/admin/v1/requests/a%2Fb%20c/explain")
    assert response.status_code == 404
    assert "'a/b c' is not known" in error_of(response)["message"]
    assert control.asked[-1] == ("explain", "a/b c")


async def test_a_name_longer_than_any_is_not_found(client: Client, control: Control) -> None:
    async with client(headers=BEARER) as http:
        assert (await http.post(f"/admin/v1/models/chat/endpoints/{'x' * 256}/open")).status_code == 200
        assert (await http.post(f"/admin/v1/models/chat/endpoints/{'x' * 257}/open")).status_code == 404
    assert len(control.asked) == 1


async def test_an_endpoint_s_breaker_is_opened_and_reset(client: Client, control: Control) -> None:
    async with client(headers=BEARER) as http:
        response = await http.post("/admin/v1/models/org%2Fchat/endpoints/local%3A8001/open")
        assert response.json()["state"] == "open"
        assert (await http.post("/admin/v1/models/chat/endpoints/local/reset")).status_code == 200
        assert (await http.post("/admin/v1/models/chat/endpoints/local/explode")).status_code == 404
        control.fails = RequestError("not_found", "there is no endpoint 'nowhere' of model 'chat'")
        response = await http.post("/admin/v1/models/chat/endpoints/nowhere/open")
    assert response.status_code == 404
    assert control.asked[:2] == [("open", "org/chat", "local:8001"), ("reset", "chat", "local")]


async def test_a_node_is_drained_and_taken_back(client: Client) -> None:
    async with client(headers=BEARER) as http:
        for step, drained in (("drain", True), ("undrain", False)):
            response = await http.post(f"/admin/v1/nodes/n-1/{step}")
            assert (response.status_code, response.json()["drained"]) == (200, drained)
        assert (await http.post("/admin/v1/nodes/n-1/explode")).status_code == 404
        assert (await http.post("/admin/v1/nodes/n-1/note?text=x&version=")).json()["note"] == "x"


async def test_rollouts_are_told_and_changed(client: Client, control: Control) -> None:
    path = "/admin/v1/rollouts"
    async with client(headers=BEARER) as http:
        assert (await http.get(path)).json()["rollouts"][0]["model"] == "chat"
        response = await http.post(f"{path}/org%2Fchat/start?version=abc&percent=20&errors_percent=5")
        assert response.json()["model"] == "org/chat"
        assert (await http.post(f"{path}/chat/promote")).status_code == 200
        assert (await http.post(f"{path}/chat/nothing")).status_code == 404
        assert (await http.post(f"{path}/chat/weights?percent=101")).status_code == 400
    asked = {"version": "abc", "percent": 20, "errors_percent": 5}
    assert control.asked == [("start", "org/chat", asked), ("promote", "chat", {})]


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/admin/v1/sessions", "sessions"),
        ("/console", "console"),
    ],
)
async def test_what_is_not_built_says_so_by_name(client: Client, path: str, part: str) -> None:
    async with client(headers=BEARER) as http:
        response = await http.get(path)
    assert response.status_code == 501
    assert error_of(response)["code"] == "not_implemented"
    assert part in error_of(response)["message"]


@pytest.mark.parametrize("failure", [KeyError("/etc/secret/path"), ValueError("stack and host")])
async def test_a_failure_shows_nothing_of_the_inside(
    client: Client, control: Control, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    control.fails = failure
    async with client(headers=BEARER) as http:
        response = await http.get("/admin/v1/status", headers={"x-request-id": "r-500"})
    assert response.status_code == 500
    assert error_of(response)["code"] == "internal_error"
    assert str(failure) not in response.text
    assert any(record.exc_info and vars(record)["request_id"] == "r-500" for record in caplog.records)


async def test_an_error_of_ours_keeps_its_status(client: Client, control: Control) -> None:
    control.fails = AutoGLMError("conflict", "there is no revision before 1")
    async with client(headers=BEARER) as http:
        response = await http.post("/admin/v1/config/rollback")
    assert response.status_code == 409
    assert error_of(response)["message"] == "there is no revision before 1"


CANARIES = [
    "mcp_" + "fedcba9876543210" * 4 + "zz",
    "sk-canary-0123456789abcdef",
    "Bearer quiet-little-canary",
    "eyJhbGciOiJI.eyJjYW5h.Y2FuYXJ5",
]


@pytest.mark.parametrize("canary", CANARIES, ids=["mcp", "sk", "bearer", "jwt"])
@pytest.mark.parametrize("route", [r for r in ROUTES if r.schema], ids=named)
async def test_no_answer_leaks_a_secret(client: Client, control: Control, route: AdminRoute, canary: str) -> None:
    control.extra = {"token": Secret("typed-secret"), "note": f'a "{canary}" b', canary: [{"deep": canary}]}
    control.ready_answer = (False, canary)
    async with client(headers=BEARER) as http:
        response = await http.request(route.method, concrete(route), content=b"a: 1")
    json.loads(response.content)
    assert canary.split(" ")[-1][8:] not in response.text
    assert "typed-secret" not in response.text
    control.fails = ConfigError(canary, [ConfigProblem(canary, 1, f"{canary} is wrong")])
    async with client(headers=BEARER) as http:
        response = await http.request(route.method, concrete(route), content=b"a: 1")
    assert canary.split(" ")[-1][8:] not in response.text


# The description.


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Check a value against the part of JSON schema that the description uses."""
    if "$ref" in schema:
        return fits(value, SCHEMAS[schema["$ref"].removeprefix("#/components/schemas/")])
    types: dict[str, tuple[type, ...]] = {
        "string": (str,),
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
        "null": (type(None),),
        "array": (list,),
        "object": (dict,),
    }
    wanted = schema.get("type", list(types))
    kinds = [wanted] if isinstance(wanted, str) else wanted
    if not any(isinstance(value, types[kind]) for kind in kinds):
        return False
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        return False
    if isinstance(value, dict):
        known = schema.get("properties", {})
        return set(schema.get("required", [])) <= set(value) and all(
            fits(item, known[name]) for name, item in value.items() if name in known
        )
    return not isinstance(value, list) or all(fits(item, schema.get("items", {})) for item in value)


def test_the_description_has_every_route_and_every_reference_leads_somewhere() -> None:
    told = description()
    described = {(method.upper(), path) for path, found in told["paths"].items() for method in found}
    assert described == {(route.method, route.path) for route in ROUTES}
    text = json.dumps(told)
    references = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert references <= set(SCHEMAS)
    assert set(SCHEMAS) - references == set(), "no schema is left over"


@pytest.mark.parametrize("route", ROUTES, ids=named)
@pytest.mark.parametrize("case", ["right", "no key", "wrong host", "empty body", "refused"])
async def test_answers_are_as_described(client: Client, control: Control, route: AdminRoute, case: str) -> None:
    headers = {} if case == "no key" else dict(BEARER)
    if case == "wrong host":
        headers["host"] = "evil.example"
    if case == "refused":
        wrong = ConfigError("it", [ConfigProblem("a.b", 1, "wrong")])
        control.fails = wrong if route.operation.startswith("config") and route.method == "POST" else KeyError("x")
    async with client(peer="192.0.2.7") as http:
        body = b"" if case == "empty body" else b"a: 1"
        response = await http.request(route.method, concrete(route), headers=headers, content=body)
    operation = description()["paths"][route.path][route.method.lower()]
    told = operation["responses"][str(response.status_code)]["content"]
    schema = told[response.headers["content-type"].partition(";")[0]]["schema"]
    assert fits(response.json() if "json" in response.headers["content-type"] else response.text, schema)


async def test_the_description_is_served(client: Client) -> None:
    async with client(headers=BEARER) as http:
        response = await http.get("/openapi.json")
    assert response.json() == json.loads(json.dumps(description()))
