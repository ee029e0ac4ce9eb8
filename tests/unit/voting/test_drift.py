"""The simulation of members that change: forgetting wins, and labels of one's own making do not replace it."""

from benchmarks.voting_drift import run

SEED = 3


def test_weights_that_forget_survive_a_swap_of_the_members() -> None:
    overall, after = run("all labels, forgetting 0.99, change detection (the defaults)", SEED)
    assert overall >= 0.90
    assert after >= 0.90
    majority, majority_after = run("majority", SEED)
    assert 0.83 <= majority <= 0.88
    assert 0.83 <= majority_after <= 0.88
    assert run("best single voter of the first half", SEED)[1] < 0.55


def test_own_decisions_as_labels_without_forgetting_lock_in_and_pseudo_labels_do_not() -> None:
    assert run("its own decisions as labels, nothing forgotten", SEED)[1] <= 0.60
    assert run("labels: pseudo, forgetting 0.99", SEED)[1] >= 0.87


def test_with_correlated_errors_weights_that_forget_beat_a_majority() -> None:
    weighted = run("all labels, forgetting 0.99, change detection (the defaults)", SEED, 0.6)[1]
    assert weighted >= run("majority", SEED, 0.6)[1] + 0.04
