"""What the admin listener asks of a running server; see `server.admin.AdminControl`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from open_autoglm import __version__, clock
from open_autoglm.config import Loaded, Revision, diff_configs, parse_config
from open_autoglm.errors import RequestError
from open_autoglm.native import current_form
from open_autoglm.rollout.plan import RolloutRules
from open_autoglm.server.audit_desk import Lesson, Said, found_run, label_told
from open_autoglm.server.models_view import models_view
from open_autoglm.telemetry.explain import RequestFilter, explain, summarize
from open_autoglm.telemetry.run_record import RunRecord

if TYPE_CHECKING:
    from open_autoglm.server.admin import EndpointAction, JSONObject, RolloutStep
    from open_autoglm.server.runs import Runs
    from open_autoglm.server.server import Server

_SOURCE = "the admin API"


class Control:
    """See the module."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def health(self) -> JSONObject:
        return {"version": __version__, "uptime_s": self._uptime_s()}

    def ready(self) -> tuple[bool, str]:
        reason = "the server is draining" if self._server.gateway.draining else self._server.unready_reason()
        return not reason, reason

    def metrics(self) -> bytes:
        return self._server.metrics.render()

    def status(self) -> JSONObject:
        server = self._server
        ready, reason = self.ready()
        return {
            "version": __version__,
            "form": current_form().name,
            "uptime_s": self._uptime_s(),
            "pid": os.getpid(),
            "ready": ready,
            "reason": reason,
            "revision": server.revision.number,
            "in_flight": server.gateway.in_flight,
            "connections": server.data.connections,
            "data_address": _address(server.data_address),
            "admin_address": _address(server.admin_address),
            "models": len(server.gateway.snapshot.listings),
            "endpoints": len(server.assembly.parts),
            "log_lines_dropped": server.request_log.dropped,
            "overload": {"stage": server.overload.stage, "cause": server.overload.cause},
            "waiting": server.gateway.queue_depths(),
            "sources": server.sources.flagged(clock.monotonic()),
            "audit": server.audit.status(),
            "runs": None if server.runs is None else server.runs.status(),
        }

    def config_active(self) -> JSONObject:
        return self._described(self._server.revision)

    def config_history(self) -> list[JSONObject]:
        return [_entry(revision) for revision in reversed(self._server.revisions.list())]

    def config_diff(self, text: str) -> JSONObject:
        changes = diff_configs(self._server.config, self._parsed(text).config)
        return {"changes": [{"path": c.path, "before": c.before, "after": c.after} for c in changes]}

    def config_apply(self, text: str, by: str) -> JSONObject:
        return self._described(self._server.apply_text(text, by))

    def config_rollback(self, by: str) -> JSONObject:
        target = self._server.revisions.rollback_target()
        if target is None:
            raise RequestError("conflict", "there is no earlier configuration to go back to")
        return self._described(self._server.apply(target.loaded, f"{by}: rollback to {target.number}"))

    def config_reload(self, by: str) -> JSONObject:
        if self._server.options.config_path is None:
            raise RequestError("conflict", "this server was started without a configuration file")
        return self._described(self._server.reload(f"{by}: reload"))

    def models(self) -> list[JSONObject]:
        return models_view(self._server)

    def nodes(self) -> list[JSONObject]:
        discovery = self._server.discovery
        return [] if discovery is None else discovery.rows()

    def node_note(self, name: str, text: str, version: str) -> JSONObject:
        discovery = self._server.discovery
        if discovery is None:
            raise RequestError("not_found", "this server is in no cluster")
        return discovery.set_note(name, text, version)

    def node_drain(self, name: str, drained: bool) -> JSONObject:
        discovery = self._server.discovery
        if discovery is None:
            raise RequestError("not_found", "this server is in no cluster")
        return discovery.set_drained(name, drained)

    def rollouts(self) -> list[JSONObject]:
        return self._server.rollouts.rows()

    async def rollout_step(self, model: str, step: RolloutStep, fields: JSONObject) -> JSONObject:
        rollouts = self._server.rollouts
        if step == "promote":
            return await rollouts.promote(model)
        if step == "rollback":
            return await rollouts.rollback(model)
        if "percent" not in fields:
            raise RequestError("invalid_request", "percent is missing: the share, 0 to 100", param="percent")
        share = fields["percent"] / 100
        if step == "weights":
            return await rollouts.set_share(model, share)
        if "version" not in fields:
            raise RequestError("invalid_request", "version is missing: the one to roll out", param="version")
        rules = RolloutRules(
            window_s=float(fields.get("window_s", 60)),
            requests_min=fields.get("requests_min", 20),
            ratio_max=fields.get("errors_percent", 5) / 100,
            promote_after_s=float(fields["promote_after_s"]) if "promote_after_s" in fields else None,
        )
        return await rollouts.start(model, fields["version"], share, rules)

    def keys(self) -> list[JSONObject]:
        rows: list[JSONObject] = []
        for entry in self._server.config.auth.keys:
            limiter = self._server.assembly.limiter(entry.name)
            limits = entry.limits
            rows.append(
                {
                    "name": entry.name,
                    "models": entry.models,
                    "priority": entry.priority,
                    "requests_per_second": limits.requests_per_second,
                    "burst": limits.burst,
                    "requests_per_minute": limits.requests_per_minute,
                    "concurrency": limits.concurrency,
                    "when_exceeded": entry.when_exceeded,
                    "in_flight": limiter.in_flight if limiter is not None else 0,
                    "last_used": self._last_used(entry.name),
                }
            )
        return rows

    def requests(self, limit: int, where: RequestFilter) -> list[JSONObject]:
        return [summarize(record) for record in self._server.explain.newest(limit, where)]

    def explain(self, request_id: str) -> JSONObject | None:
        record = self._server.explain.get(request_id)
        if record is None:
            return None
        return {**explain(record, self._candidates()), "cooperation": self._server.audit.view(request_id)}

    def run_record(self, run: str) -> RunRecord | None:
        """A run that is in this process's memory."""
        return self._server.audit.trail.runs.get(run)

    async def recorded(self, run: str) -> JSONObject:
        return await self._server.audit.recorded(run)

    async def feedback(self, run: str, said: Said) -> JSONObject:
        audit = self._server.audit
        label, lesson = audit.label(found_run(run, await audit.find(run)), said)
        return label_told(run, label, learned=audit.learn(lesson))

    def learn(self, lesson: Lesson) -> bool:
        """Have a virtual model of this process learn; whether it is served here."""
        return self._server.audit.learn(lesson)

    @property
    def runs(self) -> Runs:
        assert self._server.runs is not None, "the process that has the admin listener drives runs"
        return self._server.runs

    def endpoint_action(self, model: str, endpoint: str, action: EndpointAction) -> JSONObject:
        now_s = clock.monotonic()
        for part in self._server.assembly.parts.values():
            if part.endpoint.model == model and part.endpoint.name == endpoint:
                if action == "open":
                    part.breaker.force_open(now_s)
                else:
                    part.breaker.reset(now_s)
                part.endpoint.look_again()
                rows = models_view(self._server)
                return next(row for row in rows if row["name"] == model and row["endpoint"] == endpoint)
        raise RequestError("not_found", f"the model {model!r} has no endpoint {endpoint!r}")

    def _parsed(self, text: str) -> Loaded:
        insecure = self._server.options.insecure
        return parse_config(text, source=_SOURCE, environ=os.environ, trusted=False, insecure=insecure)

    def _described(self, revision: Revision) -> JSONObject:
        return _entry(revision) | {
            "source": revision.loaded.source,
            "warnings": revision.loaded.warnings,
            "models": models_view(self._server),
        }

    def _candidates(self) -> dict[str, list[str]]:
        candidates: dict[str, list[str]] = {}
        for part in self._server.assembly.parts.values():
            candidates.setdefault(part.endpoint.model, []).append(part.endpoint.name)
        return candidates

    def _last_used(self, key: str) -> str | None:
        newest = self._server.explain.newest(1, RequestFilter(key=key))
        return clock.iso_utc(newest[0].received_wall_s) if newest else None

    def _uptime_s(self) -> float:
        return round(clock.monotonic() - self._server.started_s, 3)


def _entry(revision: Revision) -> JSONObject:
    return {
        "revision": revision.number,
        "since": clock.iso_utc(revision.since_wall_s),
        "by": revision.by,
        "digest": revision.digest,
    }


def _address(address: tuple[str, int] | None) -> str | None:
    return None if address is None else f"{address[0]}:{address[1]}"
