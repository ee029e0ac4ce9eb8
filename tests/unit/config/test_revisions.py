"""The history of configurations."""

from open_autoglm.config import Loaded, Revisions, parse_config


def loaded(port: int, note: str = "") -> Loaded:
    text = f"server: {{port: {port}}}{note}"
    return parse_config(text, source="a.yaml", environ={}, trusted=True)


def test_the_first() -> None:
    revisions = Revisions()
    assert (revisions.active, revisions.list(), revisions.rollback_target()) == (None, [], None)
    revision = revisions.propose(loaded(1), "file", 5.0)
    assert (revision.number, revision.by, revision.since_wall_s) == (1, "file", 5.0)
    assert revision.digest == loaded(1).digest
    assert revisions.active is revision
    assert revisions.rollback_target() is None


def test_the_same_content_is_no_new_revision() -> None:
    revisions = Revisions()
    first = revisions.propose(loaded(1), "file", 5.0)
    assert revisions.propose(loaded(1, "  # a comment"), "api", 6.0) is first
    assert revisions.list() == [first]


def test_a_secret_that_changed_behind_the_same_text_is_a_new_revision() -> None:
    revisions = Revisions()
    for value in ("old", "new"):
        made = parse_config("auth: {api_key: ${K}}", source="a.yaml", environ={"K": value}, trusted=True)
        revisions.propose(made, "sighup", 0.0)
    assert [revision.number for revision in revisions.list()] == [1, 2]


def test_rolling_back_is_a_new_revision_with_the_old_content() -> None:
    revisions = Revisions()
    first = revisions.propose(loaded(1), "file", 1.0)
    second = revisions.propose(loaded(2), "api", 2.0)
    assert revisions.rollback_target() is first
    third = revisions.propose(first.loaded, "rollback to 1", 3.0)
    assert (third.number, third.loaded) == (3, first.loaded)
    assert revisions.rollback_target() is second
    assert revisions.get(2) is second
    assert revisions.get(9) is None


def test_only_the_newest_are_kept_and_numbers_go_on() -> None:
    revisions = Revisions(limit=3)
    for port in range(1, 8):
        revisions.propose(loaded(port), "file", 0.0)
    assert [revision.number for revision in revisions.list()] == [5, 6, 7]
    assert revisions.get(4) is None
