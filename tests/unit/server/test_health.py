"""Endpoints looked after: outages of all lengths, ejection and panic, what is held back, who is looked at."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from tests.unit.server.outage import Service, configured

from open_autoglm.resilience.settings import OutlierSettings


@pytest.fixture
def services() -> Iterator[list[Service]]:
    made: list[Service] = []
    yield made
    for service in made:
        service.close()


@pytest.mark.parametrize("rate", [1, 10, 100])
@pytest.mark.parametrize("outage_s", [5, 60, 600])
@pytest.mark.parametrize("names", ["a", "ab"])
def test_after_an_outage_traffic_is_normal_within_45_seconds(
    services: list[Service], names: str, outage_s: int, rate: int
) -> None:
    service = Service(names)
    services.append(service)
    service.run(60.0, rate)
    upstream = service.upstreams["a"]
    upstream.there = False
    service.failing["a"] = "connect"
    outage = service.run(outage_s, rate)
    upstream.there = True
    service.failing.clear()
    after = service.run(60.0, rate)

    # Few requests are spent on it: the amplification is what was sent over what was wanted.
    wanted = sum(second.wanted for second in outage)
    sent_to_it = sum(second.sent_to.get("a", 0) for second in outage)
    # Those that fail while earlier ones are answered, five in a row, then a few trials now and then.
    assert sent_to_it <= 0.25 * rate + 10 + 0.35 * outage_s
    # Those of its requests that failed were sent to the other one as well.
    assert sum(second.sent for second in outage) <= 1.15 * wanted + 8
    if names == "ab":
        assert all(second.answered >= 0.9 * rate - 1 for second in outage[1:])
    late = after[45:]
    share = sum(second.sent_to.get("a", 0) for second in late) / (len(late) * rate)
    assert share == pytest.approx(1 / len(names), abs=0.1)
    assert sum(second.answered for second in late) >= 0.97 * len(late) * rate - 1
    assert not service.endpoint("a").refuse_ratio
    assert service.endpoint("a").ejected_until_s == 0.0


def test_a_health_check_ends_a_long_rest(services: list[Service]) -> None:
    service = Service("a")
    services.append(service)
    service.failing["a"] = "connect"
    upstream = service.upstreams["a"]
    upstream.there = False
    service.run(600.0, 10)
    looked = upstream.looked
    assert 80 <= looked <= 150, "each five seconds or so"
    upstream.there = True
    service.failing.clear()
    after = service.run(10.0, 10)
    assert after[7].answered >= 9, "a rest of 30 s did not have to end"
    service.run(30.0, 10)
    assert upstream.looked <= looked + 3, "and then nobody looks any more"


def test_a_frozen_endpoint_is_shown_and_looked_at_until_it_answers(services: list[Service]) -> None:
    service = Service("ab")
    services.append(service)
    service.upstreams["a"].there = False
    service.loop.run_until_complete(service.health.first_look(0.5))
    assert service.health.unreachable == {service.endpoint("a")}
    assert [service.upstreams[name].looked for name in "ab"] == [1, 1]
    service.run(20.0, 1)
    assert service.upstreams["a"].looked >= 4
    assert service.upstreams["b"].looked == 1
    service.upstreams["a"].there = True
    service.run(8.0, 1)
    assert not service.health.unreachable


def test_no_more_than_eight_are_looked_at_at_once(services: list[Service]) -> None:
    names = "abcdefghijklmnopqrst"
    service = Service(names, configured({"m": names}))
    services.append(service)
    for upstream in service.upstreams.values():
        upstream.there = False
    service.loop.run_until_complete(service.health.first_look(0.5))
    looking = service.upstreams["a"].looking
    assert sum(upstream.looked for upstream in service.upstreams.values()) == 20
    looking.clear()
    service.sweep()
    for _ in range(10):
        service.now_s += 10.0
        service.sweep()
    assert max(looking) == 8
    assert all(upstream.looked > 1 for upstream in service.upstreams.values())


def test_looking_can_be_switched_off(services: list[Service]) -> None:
    config = configured({"m": "a"}, health={"enabled": False})
    service = Service("a", config)
    services.append(service)
    service.failing["a"] = "connect"
    service.run(60.0, 10)
    assert service.upstreams["a"].looked == 0


PATIENT = {"failures": 1000, "failure_ratio": 1.0, "min_calls": 10_000}
"""A breaker that leaves the judging to the comparison."""


def test_an_endpoint_that_fails_more_than_the_others_is_ejected_and_comes_back(services: list[Service]) -> None:
    config = configured({"m": "abc"}, breaker=PATIENT)
    service = Service("abc", config)
    services.append(service)
    service.run(30.0, 60)
    service.failing["a"] = "failed"
    service.run(21.0, 60)
    ejected = service.endpoint("a")
    assert ejected.ejected_until_s > service.now_s
    during = service.run(5.0, 60)
    assert all("a" not in second.sent_to for second in during[1:])
    service.failing.clear()
    service.run(45.0, 60)
    assert ejected.ejected_until_s == 0.0
    assert service.run(5.0, 60)[-1].sent_to["a"] == pytest.approx(20, abs=3)


def test_with_too_few_left_ejections_are_ignored(services: list[Service]) -> None:
    config = configured({"m": "abcde"}, breaker=PATIENT)
    service = Service("abcde", config)
    services.append(service)
    service.failing.update(a="failed", b="failed")
    service.run(25.0, 20)
    assert [service.endpoint(name).ejected_until_s > service.now_s for name in "abcde"] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert not service.group.panic
    for part in service.assembly.parts.values():
        if part.endpoint is service.endpoint("c"):
            part.breaker.force_open(service.now_s)
    service.failing.clear()
    panic = service.run(3.0, 100)
    assert service.group.panic
    assert set(panic[-1].sent_to) == set("abde"), "the ejected ones, but not what an operator closed"


def test_nobody_panics_while_a_fallback_can_take_the_load(services: list[Service]) -> None:
    config = configured({"m": "abc", "spare": "z"}, breaker=PATIENT, routing={"fallbacks": {"m": ["spare"]}})
    service = Service("abc", config)
    services.append(service)
    assert service.group.has_fallback
    for part in list(service.assembly.parts.values())[:2]:
        part.breaker.force_open(service.now_s)
    service.run(2.0, 10)
    assert not service.group.panic


def test_ejection_can_be_switched_off(services: list[Service]) -> None:
    config = configured({"m": "ab"}, breaker=PATIENT)
    service = Service("ab", config)
    services.append(service)
    service.failing["a"] = "failed"
    service.run(21.0, 60)
    assert service.endpoint("a").ejected_until_s > 0.0
    service.config = msgspec.structs.replace(config, outliers=OutlierSettings(enabled=False))
    service.run(2.0, 60)
    assert service.endpoint("a").ejected_until_s == 0.0


def test_requests_are_held_back_from_an_endpoint_that_turns_them_away(services: list[Service]) -> None:
    service = Service("a")
    services.append(service)
    service.failing["a"] = "throttled"
    held = service.run(60.0, 100)
    assert held[-1].sent < 30, "of a hundred"
    assert service.endpoint("a").refuse_ratio > 0.9
    service.failing.clear()
    after = service.run(45.0, 100)
    assert after[-1].answered >= 95
    assert service.endpoint("a").refuse_ratio == 0.0


@pytest.mark.parametrize("rate", [1, 10])
def test_what_was_held_back_is_forgotten_soon_after(services: list[Service], rate: int) -> None:
    service = Service("a")
    services.append(service)
    service.failing["a"] = "throttled"
    service.run(600.0, rate)
    service.failing.clear()
    after = service.run(45.0, rate)
    assert sum(second.answered for second in after[-5:]) >= 4 * rate
