"""Tables: aligned, one line a row, fit for terminals and pipes."""

from tests.unit.cli.terminals import out, piped, screen

from open_autoglm.cli.table import cells, print_table
from open_autoglm.cli.terminal import Terminal


def lines_of(terminal: Terminal) -> list[str]:
    return out(terminal).replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()


def test_text_stands_left_and_numbers_right() -> None:
    terminal = piped()
    print_table(terminal, ("name", "count", "ok"), [["a", 5, True], ["long name", 1234, False]])
    assert lines_of(terminal) == ["name       count  ok", "a              5  yes", "long name   1234  no"]


def test_missing_values_are_dashes() -> None:
    terminal = piped()
    print_table(terminal, ("a", "b", "c"), [[None, "", 0.5]])
    assert lines_of(terminal)[1].split() == ["-", "-", "0.5"]


def test_wide_characters_keep_the_columns() -> None:
    terminal = piped()
    print_table(terminal, ("name", "x"), [["模型", "1"], ["abcd", "2"]])
    assert [cells(line.rpartition(" ")[0]) for line in lines_of(terminal)[1:]] == [5, 5]


def test_a_screen_cuts_the_longest_column_and_a_pipe_nothing() -> None:
    rows = [["short", "x" * 200, 7]]
    narrow, pipe = screen(width=40), piped()
    print_table(narrow, ("name", "endpoint", "n"), rows)
    print_table(pipe, ("name", "endpoint", "n"), rows)
    assert [cells(line) for line in lines_of(narrow)][1] == 40
    assert "…" in lines_of(narrow)[1]
    assert "x" * 200 in lines_of(pipe)[1]


def test_columns_that_are_there_to_be_copied_are_never_cut() -> None:
    terminal = screen(width=30)
    print_table(terminal, ("id", "text"), [["i" * 40, "x" * 40]], whole=("id",))
    assert lines_of(terminal)[1] == "i" * 40 + "  " + "x" * 7 + "…"


def test_a_screen_too_narrow_for_anything_is_no_endless_loop() -> None:
    terminal = screen(width=3)
    print_table(terminal, ("name", "n"), [["x" * 50, 1]])
    assert len(lines_of(terminal)) == 2


def test_cells_of_others_cannot_move_the_cursor_or_add_rows() -> None:
    terminal = screen()
    print_table(terminal, ("name",), [["a\x1b[2J\nb"]])
    assert len(lines_of(terminal)) == 2
    assert "\x1b[2J" not in out(terminal)


def test_no_rows_print_the_head_alone() -> None:
    terminal = piped()
    print_table(terminal, ("a", "b"), [])
    assert lines_of(terminal) == ["a  b"]
