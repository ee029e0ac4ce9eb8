"""What is learned of members: labels, forgetting, changes, pseudo-labels, joint errors, the shadow majority."""

import json
import random

import msgspec
import pytest

from open_autoglm.voting.candidate import Vote
from open_autoglm.voting.knowledge import JointErrors, Knowledge, Member, Skill
from open_autoglm.voting.reliability import CLASSES_MAX, Reliability
from open_autoglm.voting.settings import TeamSettings
from open_autoglm.voting.weights import accuracies, majority_better

THREE = (Member("a"), Member("b"), Member("c"))
STEADY = {"change_detection": False}


def votes(**answers: str) -> list[Vote]:
    return [Vote(place, member, answer, 1.0) for place, (member, answer) in enumerate(answers.items())]


def made(**settings: object) -> Reliability:
    return Reliability(THREE, TeamSettings(**settings))  # type: ignore[arg-type]


def skill(reliability: Reliability, member: str, task_class: str | None = "") -> Skill | None:
    found = [s for s in reliability.knowledge().skills if (s.member, s.task_class) == (member, task_class)]
    return found[0] if found else None


def test_labels_are_counted_on_top_of_the_prior() -> None:
    reliability = made(forgetting=1.0, **STEADY)
    for _ in range(4):
        reliability.learn(votes(a="x", b="y"), "x")
    assert skill(reliability, "a") == Skill("a", "", 6.0, 1.0)
    assert skill(reliability, "b") == Skill("b", "", 2.0, 5.0)
    assert skill(reliability, "c") is None, "who did not vote is not judged"


def test_each_label_lets_the_older_ones_fade() -> None:
    reliability = made(forgetting=0.9, **STEADY)
    reliability.learn(votes(a="x"), "x")
    assert skill(reliability, "a") == Skill("a", "", pytest.approx(1 + 1 * 0.9 + 1), pytest.approx(1.0))
    for _ in range(300):
        reliability.learn(votes(a="x"), "x")
    found = skill(reliability, "a")
    assert found is not None
    assert found.right == pytest.approx(1 + 1 / (1 - 0.9)), "about ten labels are remembered"


def test_of_several_votes_of_one_member_the_share_counts_once() -> None:
    reliability = made(forgetting=1.0, **STEADY)
    reliability.learn([*votes(a="x"), Vote(1, "a", "y", 1.0), Vote(2, "a", "x", 1.0), Vote(3, "a", "x", 1.0)], "x")
    assert skill(reliability, "a") == Skill("a", "", 2.75, 1.25)


def test_a_new_class_begins_with_the_mean_of_all() -> None:
    reliability = made(forgetting=1.0, **STEADY)
    for _ in range(97):
        reliability.learn(votes(a="x"), "x", "sums")
    settings = TeamSettings(task_class="law")
    assert accuracies(THREE, settings, reliability.knowledge())["a"] == pytest.approx(0.98), "clipped"
    reliability.learn(votes(a="y"), "x", "law")
    found = skill(reliability, "a", "law")
    assert found is not None
    assert (found.right, found.wrong) == pytest.approx((3 * 99 / 100, 3 * 1 / 100 + 1))
    assert accuracies(THREE, settings, reliability.knowledge())["b"] == pytest.approx(2 / 3)


def test_a_sudden_change_drops_most_of_the_evidence() -> None:
    reliability = made(forgetting=1.0)
    for _ in range(200):
        assert reliability.learn(votes(a="x", b="x"), "x") == []
    before = skill(reliability, "a")
    assert before is not None
    changed_at = next(n for n in range(100) if reliability.learn(votes(a="y", b="x"), "x") == ["a"])
    after = skill(reliability, "a")
    assert after is not None
    assert 5 <= changed_at <= 20
    assert after.right == pytest.approx(1 + (before.right - 1) * 0.2)
    assert after.count == 0


def test_steady_members_do_not_change() -> None:
    reliability, draw = made(), random.Random(3)
    alarms = [
        change
        for _ in range(1000)
        for change in reliability.learn(votes(a="x" if draw.random() < 0.8 else "y", b="x"), "x")
    ]
    assert len(alarms) <= 2


def test_without_labels_a_member_is_judged_by_the_others_only() -> None:
    members = tuple(Member(name) for name in "abcde")
    settings = TeamSettings(labels="pseudo", choices=["x", "y"], forgetting=1.0, change_detection=False)
    reliability = Reliability(members, settings)
    assert reliability.learn_from_vote(votes(a="y", b="x", c="x", d="x", e="x")) == 1
    assert skill(reliability, "a") == Skill("a", "", 2.0, 1.3), "only the others of a are sure: four to nothing"
    assert skill(reliability, "b") is None
    assert reliability.learn_from_vote(votes(a="x", b="x", c="x", d="x", e="x")) == 5
    assert Reliability(members, TeamSettings()).learn_from_vote(votes(a="x", b="x", c="x", d="x", e="x")) == 0
    assert reliability.learn_from_vote([]) == 0


def test_a_member_alone_never_confirms_itself() -> None:
    reliability = made(labels="pseudo")
    for _ in range(50):
        reliability.learn_from_vote(votes(a="x"))
    assert reliability.knowledge() == Knowledge()


def test_joint_errors_tell_copies_from_strangers() -> None:
    reliability, draw = made(forgetting=1.0), random.Random(2)
    for _ in range(400):
        copied, own = (draw.choice("xy") for _ in range(2))
        reliability.learn(votes(a=copied, b=copied, c=own), "x")
    found = {(errors.first, errors.second): errors for errors in reliability.knowledge().joint_errors}
    assert found["a", "b"].correlation == pytest.approx(1.0)
    assert abs(found["a", "c"].correlation) < 0.2
    assert JointErrors("a", "b", 10, 0, 5, 0).correlation == 0.0


def test_the_weights_are_measured_against_a_majority() -> None:
    fooled = Knowledge(
        tuple(Skill(name, "", *counts) for name, counts in {"a": (98, 2), "b": (5, 5), "c": (5, 5)}.items())
    )
    settings = TeamSettings(choices=["x", "y"], forgetting=1.0, change_detection=False, pessimistic=False)
    reliability = Reliability(THREE, settings, fooled)
    for number in range(30):
        assert not majority_better(settings, reliability.knowledge()) or number >= 20
        reliability.learn(votes(a="y", b="x", c="x"), "x")
    losses = reliability.knowledge().losses[0]
    assert (losses.labels, losses.majority) == (30, 0)
    assert losses.weighted >= 5
    assert majority_better(settings, reliability.knowledge())


def test_the_weights_that_decided_are_measured_not_those_of_today() -> None:
    """Whatever they came from: a member whose confidence overrules the others wrongly is put aside with them."""
    reliability = made(forgetting=1.0)
    for _ in range(25):
        reliability.learn([Vote(0, "a", "x", 3.0), Vote(1, "b", "y", 1.0), Vote(2, "c", "y", 1.0)], "y")
    losses = reliability.knowledge().losses[0]
    assert (losses.labels, losses.weighted, losses.majority) == (25, 25, 0)
    assert majority_better(TeamSettings(), reliability.knowledge())


def test_a_snapshot_goes_through_json_and_goes_on_the_same() -> None:
    one, draw = made(), random.Random(1)
    other = Reliability.restored(THREE, TeamSettings(), json.loads(json.dumps(one.snapshot())))
    for number in range(60):
        item = votes(a=draw.choice("xy"), b=draw.choice("xxy"), c=draw.choice("xyz"))
        one.learn(item, "x", "sums" if number % 3 else "law")
        other.learn(item, "x", "sums" if number % 3 else "law")
        other = Reliability.restored(THREE, TeamSettings(), json.loads(json.dumps(other.snapshot())))
    assert set(one.knowledge().skills) == set(other.knowledge().skills)
    assert one.knowledge().losses == other.knowledge().losses
    law = one.knowledge().of("law")
    assert {s.task_class for s in law.skills} == {None, "law"}
    assert len(law.losses) == 1


def test_who_left_is_forgotten_and_strangers_are_not_judged() -> None:
    reliability = made()
    reliability.learn(votes(a="x", z="x"), "x")
    smaller = Reliability(THREE[1:], TeamSettings(), reliability.knowledge())
    assert smaller.knowledge().skills == ()
    assert smaller.learn(votes(a="x", z="y"), "x") == []
    assert {s.member for s in reliability.knowledge().skills} == {"a"}


def test_classes_are_limited_and_the_oldest_goes() -> None:
    reliability = made()
    for number in range(CLASSES_MAX + 3):
        reliability.learn(votes(a="x"), "x", f"class {number}")
        reliability.learn(votes(a="x"), "x", "kept")
    classes = {s.task_class for s in reliability.knowledge().skills}
    assert len(classes) == CLASSES_MAX + 1, "and the record over all classes"
    assert {"kept", f"class {CLASSES_MAX + 2}", None} <= classes
    assert "class 0" not in classes
    assert len(reliability.knowledge().losses) == CLASSES_MAX


def test_a_snapshot_that_could_not_be_ours_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        Reliability.restored(
            THREE, TeamSettings(), {"skills": [{"member": "a", "task_class": "", "right": 0, "wrong": 1}]}
        )


def test_a_pseudo_label_without_weight_teaches_nothing() -> None:
    settings = TeamSettings(labels="pseudo", pseudo_weight=0.0)
    reliability = Reliability(tuple(Member(name) for name in "abcdef"), settings)
    assert reliability.learn_from_vote(votes(**dict.fromkeys("abcdef", "x"))) == 0
    assert reliability.knowledge() == Knowledge()
