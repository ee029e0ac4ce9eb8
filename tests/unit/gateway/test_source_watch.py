import logging

import pytest

from open_autoglm.admission.classes import CRITICAL, CRITICAL_PLUS, SHEDDABLE
from open_autoglm.admission.networks import Networks
from open_autoglm.admission.settings import SourceSettings
from open_autoglm.gateway.source_watch import SourceWatch
from open_autoglm.security.keys import Principal

NOBODY = Networks(())
DEFAULTS = SourceSettings()


class Paces:
    """Remembers what each key was held to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float | None]] = []

    def __call__(self, name: str, rate: float | None) -> None:
        self.calls.append((name, rate))


def watch_of(*principals: Principal, settings: SourceSettings = DEFAULTS) -> tuple[SourceWatch, Paces]:
    paces = Paces()
    watch = SourceWatch(settings, paces)
    watch.adopt(settings, principals, NOBODY, 0.0)
    return watch, paces


def misbehave(principal: Principal, watch: SourceWatch, until_s: int) -> None:
    for now_s in range(5, until_s + 1, 5):
        principal.requests += 60
        principal.refused += 60
        watch.look(float(now_s))


def test_a_flagged_key_is_lowered_and_paced_until_it_behaves(caplog: pytest.LogCaptureFixture) -> None:
    key = Principal("noisy", None, None, ceiling=CRITICAL_PLUS)
    watch, paces = watch_of(key)
    with caplog.at_level(logging.WARNING):
        misbehave(key, watch, 10)
        assert key.priority == SHEDDABLE
        assert paces.calls == [("noisy", 100 / 60)]
        assert watch.flags == {"address": 0, "key": 1}
        assert [row["name"] for row in watch.flagged(10.0)] == ["noisy"]
        for now_s in range(15, 400, 5):
            watch.look(float(now_s))
    assert key.priority == CRITICAL_PLUS
    assert paces.calls[-1] == ("noisy", None)
    assert watch.flagged(400.0) == []
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["source flagged", "source released"]


def test_a_flag_outlives_a_reload() -> None:
    key = Principal("noisy", None, None)
    watch, paces = watch_of(key)
    misbehave(key, watch, 10)
    again, other = Principal("noisy", None, None), Principal("other", None, None)
    watch.adopt(SourceSettings(), [again, other], NOBODY, 11.0)
    assert (again.priority, other.priority) == (SHEDDABLE, CRITICAL)
    assert len(paces.calls) == 2
    watch.look(15.0)
    assert again.priority == SHEDDABLE


def test_nothing_is_flagged_when_it_is_switched_off() -> None:
    off = SourceSettings(enabled=False)
    key = Principal("noisy", None, None)
    watch, paces = watch_of(key, settings=off)
    misbehave(key, watch, 100)
    for _ in range(50):
        watch.failed("203.0.113.9", 1.0)
    assert (key.priority, paces.calls) == (CRITICAL, [])
    assert watch.wait_s("203.0.113.9", 1.0) == 0.0


def test_to_switch_it_off_releases_everybody(caplog: pytest.LogCaptureFixture) -> None:
    key = Principal("noisy", None, None)
    watch, paces = watch_of(key)
    misbehave(key, watch, 10)
    for _ in range(10):
        watch.failed("203.0.113.9", 10.0)
    again = Principal("noisy", None, None)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        watch.adopt(SourceSettings(enabled=False), [again], NOBODY, 11.0)
    assert (again.priority, len(paces.calls)) == (CRITICAL, 1)
    assert watch.wait_s("203.0.113.9", 11.0) == 0.0
    assert watch.flagged(11.0) == []
    assert caplog.messages == ["source released: key noisy"]


@pytest.mark.parametrize(("address", "loopback", "waits"), [("127.0.0.1", False, False), ("::1", True, True)])
def test_this_machine_is_looked_at_only_when_asked(address: str, loopback: bool, waits: bool) -> None:
    watch, _ = watch_of(settings=SourceSettings(loopback=loopback))
    for _ in range(10):
        watch.failed(address, 1.0)
    assert (watch.wait_s(address, 1.0) > 0.0) == waits


def test_a_proxy_does_not_answer_for_those_behind_it() -> None:
    watch, _ = watch_of()
    watch.adopt(SourceSettings(), [], Networks(["203.0.113.0/24"]), 0.0)
    for _ in range(10):
        watch.failed("203.0.113.9", 1.0)
    assert watch.wait_s("203.0.113.9", 1.0) == 0.0


def test_whoever_guesses_from_all_addresses_of_a_network_has_to_wait() -> None:
    watch, _ = watch_of()
    for number in range(10):
        watch.failed(f"2001:db8:0:7::{number:x}", 1.0)
    assert watch.flags["address"] == 1
    assert watch.wait_s("2001:db8:0:7:ffff::1", 1.0) == 10.0
    assert watch.wait_s("2001:db8:0:8::1", 1.0) == 0.0
    assert [row["name"] for row in watch.flagged(1.0)] == ["2001:db8:0:7::/64"]
