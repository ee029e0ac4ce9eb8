"""Judges a whole run: what clients saw, what upstreams were asked and what the gateway wrote down must agree.

Each promise is a function below, named in `PROMISES`; it yields what breaks it. Nothing here looks into the gateway:
any gateway can be judged whose clients and upstreams are these, and what only ours can tell (`records`, `leftovers`)
may be left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

from open_autoglm.exchange.outcomes import RULES
from open_autoglm.exchange.record import RequestRecord
from open_autoglm.testing.client import Question, Seen
from open_autoglm.testing.reply import Asked

_OVERLOAD_CODES: Final = frozenset({"overloaded", "rate_limit_exceeded", "queue_full", "no_healthy_endpoint"})
_FREE_REASONS: Final = frozenset(word for word, rule in RULES.items() if rule.verdict != "failure")


class Broken(NamedTuple):
    """A promise that was not kept.

    Attributes:
        promise: its name.
        id: of the request, or empty.
        detail: what was seen instead.
    """

    promise: str
    id: str
    detail: str


class Span(NamedTuple):
    """A stretch of loop time during which something held for a host."""

    host: str
    from_s: float
    to_s: float

    def covers(self, host: str, at_s: float, margin_s: float = 0.0) -> bool:
        """Whether it held for that host at that time, or up to `margin_s` before."""
        return host == self.host and self.from_s <= at_s <= self.to_s + margin_s


class Revision(NamedTuple):
    """A configuration in use from some time on.

    Attributes:
        from_s: loop time.
        targets: pairs of upstream and model name that it may ask.
    """

    from_s: float
    targets: frozenset[tuple[str, str]]


@dataclass(slots=True)
class Bounds:
    """What this run may do.

    Attributes:
        calls_max: to upstreams for one request.
        at_once_max: of them at the same time; 2 where hedges are allowed.
        limit_s: of a request without a limit of its own.
        slack_s: how late something may be because of the network and the gateway's sweeps.
        cancel_s: within which a call must end once nobody waits for it.
        retries: of each group, beyond those of a share of `retry_ratio` of the good answers: its bucket has 25 tokens
            at first, and keeps five.
        retry_ratio: see there.
        trials_per_s: calls that an upstream may get each second while all that it does is fail.
        refusal_s: how long a request may wait before it is told that it is not served.
    """

    calls_max: int = 3
    at_once_max: int = 1
    limit_s: float = 600.0
    slack_s: float = 0.05
    cancel_s: float = 0.1
    retries: int = 20
    retry_ratio: float = 0.1
    trials_per_s: float = 0.65
    refusal_s: float = 1.5


@dataclass
class Run:
    """What happened, as told by those who saw it.

    Attributes:
        bounds: see there.
        seen: questions and what their clients saw, by id.
        asked: what upstreams were asked, in order.
        records: what the gateway wrote down.
        leftovers: figures that must be zero at the end, by name.
        failures: exceptions that nobody caught, errors that were logged.
        unreachable: when nothing came through to, or from, a host.
        failing: when all that a host did was fail at once.
        throttled: from a host's refusal to the end of the time it asked for.
        revisions: configurations in use, in order.
        closed_s: when the listeners were closed; 0.0 for never.
        calm_s: after this every request must be answered well; 0.0 for never.
        classes: the priority of a request, by id, 0 the lowest; empty where all are alike.
    """

    bounds: Bounds
    seen: dict[str, tuple[Question, Seen]]
    asked: list[Asked]
    records: list[RequestRecord] | None = None
    leftovers: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    unreachable: list[Span] = field(default_factory=list)
    failing: list[Span] = field(default_factory=list)
    throttled: list[Span] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)
    closed_s: float = 0.0
    calm_s: float = 0.0
    classes: dict[str, int] = field(default_factory=dict)

    @cached_property
    def calls(self) -> dict[str, list[Asked]]:
        """What upstreams were asked, by the request's id."""
        found: dict[str, list[Asked]] = defaultdict(list)
        for asked in self.asked:
            found[asked.headers.get("x-request-id", "")].append(asked)
        return found

    def too_late(self, seen: Seen) -> bool:
        """Whether a request was sent when the listeners were being closed, or later."""
        return 0.0 < self.closed_s < seen.sent_s + 0.1 + self.bounds.slack_s

    def out_of_reach(self, host: str, at_s: float) -> bool:
        """Whether what happened at a host then says nothing about the gateway."""
        return any(span.covers(host, at_s, margin_s=2.0) for span in self.unreachable)


Found = Iterator[tuple[str, str]]
"""Ids and details of what breaks a promise."""


def one_end(run: Run) -> Found:
    """Every request ends, exactly once."""
    for id_, (_, seen) in run.seen.items():
        if seen.ends != 1:
            yield id_, f"it ended {seen.ends} times"


def right_text(run: Run) -> Found:
    """What claims to be a whole answer is the right one, to the letter."""
    for id_, (question, seen) in run.seen.items():
        if not seen.right:
            continue
        if seen.unreadable:
            yield id_, f"unreadable: {seen.unreadable}"
        elif seen.text != question.right:
            yield id_, f"wrong text: {_difference(question.right, seen.text)}"
        elif not seen.finish or (question.stream and not seen.done):
            yield id_, f"shown as whole without its end: {seen.told()}"
        elif question.stream and seen.roles > 1:
            yield id_, f"{seen.roles} voices: the role was told so often"


def true_part(run: Run) -> Found:
    """What was told of a broken answer is the beginning of the right one."""
    for id_, (question, seen) in run.seen.items():
        if not question.right.startswith(seen.text):
            yield id_, f"not a beginning: {_difference(question.right, seen.text)}"


def honest_break(run: Run) -> Found:
    """A stream that is not whole says so in its own form, without an end mark, and is silent after that."""
    for id_, (_, seen) in run.seen.items():
        if seen.late:
            yield id_, f"{seen.late} events after the end"
        if seen.end == "left":
            continue
        if seen.status == 200 and not seen.right and seen.error is None:
            yield id_, f"broke without a word: {seen.told()}"
        elif seen.error is not None and seen.done:
            yield id_, "an error and [DONE]"
        elif seen.end == "cut" and seen.status == 0 and not run.too_late(seen):
            yield id_, "the connection was closed without an answer"


def errors_have_a_code(run: Run) -> Found:
    """An error says what it is, in a form that clients can read."""
    for id_, (_, seen) in run.seen.items():
        if seen.status > 200 and (seen.error is None or not seen.error.get("code")):
            yield id_, f"HTTP {seen.status} without a code"


def attempts_bounded(run: Run) -> Found:
    """No request is tried more often than it may be, nor at more places at once."""
    for id_, calls in run.calls.items():
        if id_ not in run.seen:
            continue
        if len(calls) > run.bounds.calls_max:
            yield id_, f"{len(calls)} calls, {run.bounds.calls_max} are allowed"
        for call in calls:
            others = [c for c in calls if c is not call and c.arrived_s <= call.arrived_s <= _ended_s(c) - 0.1]
            others = [c for c in others if not run.out_of_reach(c.upstream, _ended_s(c))]
            if len(others) >= run.bounds.at_once_max:
                yield id_, f"{len(others) + 1} calls at once"


def retries_bounded(run: Run) -> Found:
    """Retries after failures stay a small share of what succeeds."""
    if run.records is None:
        return
    good = sum(record.status == 200 for record in run.records)
    retries = sum(
        1
        for record in run.records
        for before, after in zip(record.attempts, record.attempts[1:], strict=False)
        if before.outcome not in _FREE_REASONS and before.group == after.group
    )
    groups = len({attempt.group for record in run.records for attempt in record.attempts})
    allowed = run.bounds.retries * max(1, groups) + run.bounds.retry_ratio * good
    if retries > allowed:
        yield "", f"{retries} retries beside {good} good answers, {allowed:.0f} are allowed"


def no_late_call(run: Run) -> Found:
    """No upstream is asked for somebody who no longer waits."""
    for id_, (_, seen) in run.seen.items():
        for call in run.calls.get(id_, ()):
            late_s = call.arrived_s - (_gone_s(run, id_) + run.bounds.cancel_s + run.bounds.slack_s)
            if seen.end and late_s > 0 and not run.out_of_reach(call.upstream, call.arrived_s):
                yield id_, f"{call.upstream} was asked {late_s + run.bounds.cancel_s:.3f} s after the end"


def cancelled_in_time(run: Run) -> Found:
    """A call that nobody waits for ends within 100 ms: the client left, its time ran out, another call won."""
    grace_s = run.bounds.cancel_s + run.bounds.slack_s
    for id_, (question, seen) in run.seen.items():
        if not seen.end:
            continue
        gone_s = _gone_s(run, id_)
        for call in run.calls.get(id_, ()):
            late_s = _ended_s(call) - max(gone_s, call.arrived_s) - grace_s
            if late_s > 0 and not run.out_of_reach(call.upstream, _ended_s(call)):
                yield id_, f"{call.upstream} worked {late_s + grace_s:.3f} s for nobody"
        if question.stream and seen.first_s and not question.reads_after_s:
            late = [c for c in run.calls.get(id_, ()) if _outlived(c, seen.first_s + grace_s)]
            if len(late) > 1 and not any(run.out_of_reach(c.upstream, _ended_s(c)) for c in late):
                yield id_, f"{len(late)} calls ran on after one had won"


def limits_kept(run: Run) -> Found:
    """A client is answered before its time limit, one way or the other."""
    for id_, (question, seen) in run.seen.items():
        limit_s = min(question.limit_s or run.bounds.limit_s, run.bounds.limit_s) + question.reads_after_s
        took_s = seen.ended_s - seen.sent_s
        if seen.end and took_s > limit_s + 0.1 + run.bounds.slack_s:
            yield id_, f"answered after {took_s:.3f} s, the limit was {limit_s:g} s"


def failing_left_alone(run: Run) -> Found:
    """An upstream that only fails, and was found out, gets a rest: now and then a trial, not its share of the load."""
    for span in run.failing:
        arrived = [
            c.arrived_s for c in run.asked if c.upstream == span.host and span.from_s <= c.arrived_s <= span.to_s
        ]
        start_s = min(arrived, default=span.to_s) + 3.0
        if span.to_s - start_s < 3.0:
            continue
        calls = sum(start_s <= arrived_s for arrived_s in arrived)
        allowed = 5 + run.bounds.trials_per_s * (span.to_s - start_s)
        if calls > allowed:
            yield "", f"{span.host} failed for {span.to_s - span.from_s:.0f} s and got {calls} calls, not {allowed:.0f}"


def asked_time_is_kept(run: Run) -> Found:
    """Who says 429 with Retry-After is not asked before that time has passed."""
    for span in run.throttled:
        if run.out_of_reach(span.host, span.from_s):
            continue  # nobody may have heard it
        for call in run.asked:
            if call.upstream == span.host and span.from_s + run.bounds.slack_s < call.arrived_s < span.to_s:
                yield (
                    call.headers.get("x-request-id", ""),
                    f"{span.host} was asked {span.to_s - call.arrived_s:.3f} s early",
                )


def one_configuration(run: Run) -> Found:
    """A request is served by one configuration alone, the one in use when it came."""
    if len(run.revisions) < 2:
        return
    for id_, (_, seen) in run.seen.items():
        used = {(call.upstream, call.model) for call in run.calls.get(id_, ())}
        spans = zip(run.revisions, [*run.revisions[1:], None], strict=True)
        fitting = [
            one
            for one, after in spans
            if one.from_s <= seen.sent_s + 1.0 and (after is None or after.from_s >= seen.sent_s)
        ]
        if used and not any(used <= one.targets for one in fitting):
            yield id_, f"served by {sorted(used)}, a mixture or an old configuration"


def nothing_lost_in_drain(run: Run) -> Found:
    """What came before the listeners closed is answered; what comes after is refused or told to go elsewhere."""
    if not run.closed_s:
        return
    for id_, (_, seen) in run.seen.items():
        code = seen.error.get("code") if seen.error else ""
        if not run.too_late(seen) and (seen.end == "refused" or code == "server_draining"):
            yield id_, f"lost in the drain: {seen.told()}"
        elif seen.sent_s > run.closed_s + run.bounds.slack_s and seen.right:
            yield id_, "served after the listeners had closed"


def refused_in_time(run: Run) -> Found:
    """Who is not served because of too much load is told soon."""
    for id_, (question, seen) in run.seen.items():
        code = seen.error.get("code") if seen.error else ""
        took_s = seen.ended_s - seen.sent_s - question.reads_after_s
        if code in _OVERLOAD_CODES and not run.calls.get(id_) and took_s > run.bounds.refusal_s:
            yield id_, f"{code} after {took_s:.3f} s"


def higher_class_first(run: Run) -> Found:
    """Under overload the lower class is refused first."""
    served: Counter[int] = Counter()
    refused: Counter[int] = Counter()
    for id_, class_ in run.classes.items():
        _, seen = run.seen[id_]
        code = seen.error.get("code") if seen.error else ""
        (refused if code in _OVERLOAD_CODES else served)[class_] += 1
    shares = {c: refused[c] / (refused[c] + served[c]) for c in {*served, *refused} if refused[c] + served[c] >= 10}
    for low, high in ((a, b) for a in shares for b in shares if a < b):
        if shares[high] > shares[low] + 0.05:
            yield "", f"class {high} was refused {shares[high]:.0%}, class {low} {shares[low]:.0%}"


def calm_after_the_storm(run: Run) -> Found:
    """Once the faults are over and some time has passed, every request is answered well."""
    if not run.calm_s:
        return
    for id_, (_, seen) in run.seen.items():
        if seen.sent_s >= run.calm_s and seen.end != "left" and not seen.right:
            yield id_, f"{seen.told()} {seen.sent_s - run.calm_s:.1f} s after the calm began"


def one_record(run: Run) -> Found:
    """Each request is written down once, as its client saw it."""
    if run.records is None:
        return
    written = Counter(record.request_id for record in run.records)
    statuses = {record.request_id: record.status for record in run.records}
    for id_, (_, seen) in run.seen.items():
        count = written[id_]
        if count > 1 or (count == 0 and (seen.status or run.calls.get(id_))):
            yield id_, f"written down {count} times"
        elif seen.end == "whole" and statuses[id_] != seen.status:
            yield id_, f"written down as {statuses[id_]}, seen as {seen.status}"


def nothing_left(run: Run) -> Found:
    """At the end nothing is held: no request, no attempt, no permit, no place in a limiter or a queue."""
    for name, figure in run.leftovers.items():
        if figure:
            yield "", f"{name} is {figure:g}"


def no_defect(run: Run) -> Found:
    """No exception escapes, and nothing is logged as an error."""
    for failure in run.failures:
        yield "", failure


PROMISES: Final[dict[str, Callable[[Run], Found]]] = {
    promise.__name__: promise
    for promise in (
        one_end,
        right_text,
        true_part,
        honest_break,
        errors_have_a_code,
        attempts_bounded,
        retries_bounded,
        no_late_call,
        cancelled_in_time,
        limits_kept,
        failing_left_alone,
        asked_time_is_kept,
        one_configuration,
        nothing_lost_in_drain,
        refused_in_time,
        higher_class_first,
        calm_after_the_storm,
        one_record,
        nothing_left,
        no_defect,
    )
}
"""By name; the docstring says what is promised."""


def judge(run: Run) -> list[Broken]:
    """Return every promise that was broken, with the request it was broken to."""
    return [Broken(name, id_, detail) for name, promise in PROMISES.items() for id_, detail in promise(run)]


def _gone_s(run: Run, id_: str) -> float:
    """When the client of a request stopped waiting."""
    question, seen = run.seen[id_]
    return min(seen.ended_s, seen.sent_s + question.limit_s) if question.limit_s else seen.ended_s


def _ended_s(call: Asked) -> float:
    return call.done_s or call.left_s or float("inf")


def _outlived(call: Asked, at_s: float) -> bool:
    return call.arrived_s < at_s < _ended_s(call)


def _difference(right: str, text: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(right, text, strict=False)) if a != b), min(len(right), len(text)))
    return (
        f"{len(text)} characters for {len(right)}, other from {at}: {text[at : at + 20]!r} for {right[at : at + 20]!r}"
    )
