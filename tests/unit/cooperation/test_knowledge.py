"""What virtual models learn is kept: over reloads, restarts and broken files, and no longer than it is worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_autoglm.cooperation.knowledge import Book, Library
from open_autoglm.voting.candidate import Decision, Vote
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.settings import TeamSettings

TEAM = (Member("a"), Member("b"), Member("c"))
DECISION = Decision(
    "42", 0, 0.99, 2 / 3, (Vote(0, "a", "42", 1.0), Vote(1, "b", "42", 1.0), Vote(2, "c", "41", 1.0)), ""
)


def right(book: Book, member: str) -> float:
    [skill] = [s for s in book.knowledge().skills if s.member == member and s.task_class is None]
    return skill.right / (skill.right + skill.wrong)


def saved(library: Library) -> None:
    content = library.changes()
    assert content is not None
    library.write(content)


def test_a_label_is_learned_and_survives_a_restart(tmp_path: Path) -> None:
    library = Library(str(tmp_path / "data"))
    book = library.book("team", TEAM, TeamSettings())
    book.label(DECISION, "42")
    assert right(book, "a") > right(book, "c")
    saved(library)
    assert library.changes() is None, "nothing was learned since"
    again = Library(str(tmp_path / "data")).book("team", TEAM, TeamSettings())
    assert again.knowledge() == book.knowledge()
    assert (tmp_path / "data" / "cooperation.json").stat().st_mode & 0o077 == 0


def test_a_reload_keeps_the_book_of_an_unchanged_model_and_the_knowledge_of_a_changed_one() -> None:
    library = Library(None)
    book = library.book("team", TEAM, TeamSettings())
    book.label(DECISION, "42")
    assert library.book("team", TEAM, TeamSettings()) is book
    changed = library.book("team", TEAM[:2], TeamSettings(quorum=2))
    assert right(changed, "a") == right(book, "a")
    assert {skill.member for skill in changed.knowledge().skills} == {"a", "b"}, "who has left is forgotten"
    library.keep(set())
    assert library.find("team") is None


def test_without_labels_only_sure_decisions_teach_and_only_where_that_is_wanted() -> None:
    team = tuple(Member(name) for name in "abcdefg")
    plain, pseudo = Book(team, TeamSettings(), Knowledge()), Book(team, TeamSettings(labels="pseudo"), Knowledge())
    sure = Decision("42", 0, 0.99, 6 / 7, tuple(Vote(n, m, "42", 1.0) for n, m in enumerate("abcdef")), "all_in")
    torn = Decision("42", 0, 0.5, 0.5, sure.votes[:1], "all_in")
    for book in (plain, pseudo):
        book.decided(torn)
        assert not book.changed
        book.decided(sure)
    assert not plain.changed
    assert pseudo.changed


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"team": 3}', b"\xff"])
def test_a_file_that_cannot_be_read_is_put_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cooperation.json"
    path.write_bytes(content)
    library = Library(str(tmp_path))
    assert library.book("team", TEAM, TeamSettings()).knowledge() == Knowledge()
    assert not path.exists()
    assert (tmp_path / "cooperation.json.unreadable").read_bytes() == content


def test_only_one_of_several_processes_writes(tmp_path: Path) -> None:
    library = Library(str(tmp_path), writes=False)
    library.book("team", TEAM, TeamSettings()).label(DECISION, "42")
    assert library.changes() is None


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    library = Library(str(tmp_path / "data"))
    library.book("team", TEAM, TeamSettings()).label(DECISION, "42")
    saved(library)
