"""The admin listener's door: what it needs from the server, and how to build and open it.

Invariant: importing this module imports neither Starlette nor uvicorn; they cost a tenth of a second that the first
answer on the data listener need not wait for. Everything heavy is behind the two functions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from open_autoglm.secret import Secret
from open_autoglm.telemetry.explain import RequestFilter

if TYPE_CHECKING:
    import socket
    import ssl

    from starlette.applications import Starlette

    from open_autoglm.server.admin_listener import AdminListener
    from open_autoglm.server.audit_desk import Said
    from open_autoglm.server.context_endpoint import ContextEndpoint
    from open_autoglm.server.runs import Runs

__all__ = ["AdminControl", "EndpointAction", "JSONObject", "RequestFilter", "RolloutStep", "build_admin", "serve_admin"]

JSONObject = dict[str, Any]

EndpointAction = Literal["open", "reset"]
"""`open` keeps requests away from an endpoint until `reset`, which also forgets what its breaker remembers."""


RolloutStep = Literal["start", "weights", "promote", "rollback"]
"""What may be done with a rollout."""


class AdminControl(Protocol):
    """What the admin listener asks of the server. Reads are quick: they run on the event loop.

    No answer may hold a secret. Where something is refused, an `AutoGLMError` says why and its code decides the
    status; a `ConfigError` is answered with 422 and all its problems.
    """

    def health(self) -> JSONObject:
        """Figures of a living process (`version`, `uptime_s`, …); `status: ok` is added."""
        ...

    def ready(self) -> tuple[bool, str] | Awaitable[tuple[bool, str]]:
        """Whether requests can be served, and if not, why."""
        ...

    def metrics(self) -> bytes | Awaitable[bytes]:
        """Prometheus text, as `Metrics.render` gives it."""
        ...

    def status(self) -> JSONObject | Awaitable[JSONObject]:
        """One page about the server: `version`, `uptime_s`, `revision`, `ready`, `in_flight`, addresses, …"""
        ...

    def config_active(self) -> JSONObject:
        """The active configuration: `revision`, `since` (ISO 8601), `by`, and what may be shown of it."""
        ...

    def config_history(self) -> list[JSONObject]:
        """The revisions that are remembered, the newest first: `revision`, `since`, `by`."""
        ...

    def config_diff(self, text: str) -> JSONObject:
        """What applying `text` (YAML or JSON) would change: `changes: [{path, before, after}]`.

        Raises:
            ConfigError: it would be refused.
        """
        ...

    def config_apply(self, text: str, by: str) -> JSONObject | Awaitable[JSONObject]:
        """Make `text` the active configuration, whole or not at all; returns what `config_active` would now.

        Raises:
            ConfigError: nothing has changed.
        """
        ...

    def config_rollback(self, by: str) -> JSONObject | Awaitable[JSONObject]:
        """Go back to the revision before; returns what `config_active` would now.

        Raises:
            AutoGLMError: `conflict`, there is none before.
        """
        ...

    def config_reload(self, by: str) -> JSONObject | Awaitable[JSONObject]:
        """Read the configuration file again; returns what `config_active` would now.

        Raises:
            AutoGLMError: `conflict`, the server was started without a file.
            ConfigError: nothing has changed.
        """
        ...

    def models(self) -> list[JSONObject] | Awaitable[list[JSONObject]]:
        """One row per endpoint: `name`, `dialect`, `endpoint`, `state`, and figures (`breaker`, `in_flight`, …)."""
        ...

    def nodes(self) -> list[JSONObject]:
        """One row per member of the cluster, this server first; none where there is no cluster."""
        ...

    def node_note(self, name: str, text: str, version: str) -> JSONObject:
        """Set the note on a member, which all servers show; returns `id`, `note` and `note_version`.

        Raises:
            AutoGLMError: `not_found`, `conflict` when `version` is not what is shown, `invalid_request`.
        """
        ...

    def node_drain(self, name: str, drained: bool) -> JSONObject:
        """Have no server send new requests to a node, or have them do so again; returns `id`, `drained` and the note.

        Raises:
            AutoGLMError: `not_found`, `invalid_request`: it is a server.
        """
        ...

    def rollouts(self) -> list[JSONObject]:
        """One row per rollout that is remembered: `model`, `state`, `share`, both versions with figures, `history`."""
        ...

    def rollout_step(self, model: str, step: RolloutStep, fields: JSONObject) -> Awaitable[JSONObject]:
        """Start, weigh, promote or take back a rollout; returns its row.

        Raises:
            AutoGLMError: `not_found`, `conflict`, `invalid_request`; what was not done is undone.
        """
        ...

    def keys(self) -> list[JSONObject] | Awaitable[list[JSONObject]]:
        """One row per API key: `name`, its limits, `last_used`; never the key."""
        ...

    def requests(self, limit: int, where: RequestFilter) -> list[JSONObject] | Awaitable[list[JSONObject]]:
        """The newest requests, as `telemetry.explain.summarize` tells them; `limit` is 1 to 1000."""
        ...

    def explain(self, request_id: str) -> JSONObject | Awaitable[JSONObject | None] | None:
        """One request as `telemetry.explain.explain` tells it; `None` when it is not (or no longer) known."""
        ...

    def recorded(self, run: str) -> Awaitable[JSONObject]:
        """What a virtual model did for a request, as `telemetry.run_view` shows it, from memory or the audit's files.

        Raises:
            AutoGLMError: `not_found`, `internal_error`, the files cannot be read.
        """
        ...

    def feedback(self, run: str, said: Said) -> Awaitable[JSONObject]:
        """Take down what somebody says of a run; returns `run`, `by`, `right`, and whether a model `learned` of it.

        Raises:
            AutoGLMError: `not_found`, `conflict`, `invalid_request`; nothing was taken down.
        """
        ...

    @property
    def runs(self) -> Runs:
        """Durable runs of task graphs."""
        ...

    def endpoint_action(self, model: str, endpoint: str, action: EndpointAction) -> JSONObject | Awaitable[JSONObject]:
        """Force an endpoint's breaker open, or reset it; returns the endpoint's row of `models`.

        Raises:
            AutoGLMError: `not_found`, there is no such endpoint.
        """
        ...


def build_admin(
    control: AdminControl, *, key: Secret, allowed_hosts: Collection[str] = (), context: ContextEndpoint | None = None
) -> Starlette:
    """Return the admin application.

    Args:
        control: the server.
        key: what `Authorization: Bearer` must carry.
        allowed_hosts: names that `Host` may say beside those of the loopback, without port: the address that the
            listener is bound to, when it is not the loopback, and names that lead to it. Guards against
            DNS rebinding.
        context: speaks the context protocol, which is described elsewhere than in the OpenAPI document.
    """
    from open_autoglm.server.admin_app import build

    return build(control, key=key, allowed_hosts=allowed_hosts, context=context)


async def serve_admin(
    app: Starlette,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    socks: Sequence[socket.socket] = (),
    tls: ssl.SSLContext | None = None,
) -> AdminListener:
    """Open the listener in the running event loop and return it, accepting.

    Args:
        app: from `build_admin`.
        host, port: where to listen; port 0 asks the system for a free one.
        socks: bound sockets to listen on instead.
        tls: server-side context; plain HTTP when left out.

    Raises:
        OSError: the address cannot be had.
    """
    from open_autoglm.server.admin_listener import open_listener

    return await open_listener(app, host, port, socks=socks, tls=tls)
